"""Training of one run, from its start or from where an earlier attempt stopped.

    kmax train RUN                                        one device, or all GPUs of this node
    KMAX_RANKS=2 kmax train RUN                           two CPU processes (gloo)
    srun --nodes=2 --ntasks-per-node=1 kmax train RUN     all GPUs of two nodes

Resumption is exact: samples and random numbers of a step are functions of (seed, step, rank) alone, so the
weights, the optimiser's moments, the average and the history are the whole state.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import torch
from torch import Tensor

import kmax
from kmax import config, paths
from kmax.data.datasets import Prepared, open_prepared
from kmax.data.image_list import val_images
from kmax.data.loading.loader import train_batches
from kmax.errors import InputError, OutOfTimeError
from kmax.losses import Criterion, NonFiniteLossError
from kmax.model.kmax import KMaX
from kmax.parallel import count_from_environment, loader_workers
from kmax.runs.families import location
from kmax.runs.identity import Identity, identify
from kmax.tracking.tracker import track
from kmax.training.budget import Budget, Stop, read_budget
from kmax.training.determinism import deterministic_algorithms, seed_generators
from kmax.training.optimizer import optimizer_flavour, set_learning_rates
from kmax.training.plan import plan_ranks
from kmax.training.publish import publish
from kmax.training.ranks import Ranks, run_ranks
from kmax.training.schedule import learning_rate
from kmax.training.state import find_checkpoint, initial_state, only_copy
from kmax.training.training_progress import TrainingProgress, say


def train_run(run: config.Run, *, fresh: bool = False, time_budget: float | None = None) -> Path:
    """Train `run`, or resume it, or publish again what is complete; starts its own ranks.

    Args:
        run: with a `train` section.
        fresh: forget the checkpoints of the same parameters and train anew.
        time_budget: seconds after which to checkpoint and leave; None: KMAX_TIME_BUDGET, or no limit.

    Returns:
        `results/R/model.safetensors`; `reports/metrics/R/history.csv` is written too.

    Raises:
        InputError: bad input, a second copy of this training, a loss that is not finite, or a time budget
            that was over before the first step.
        OutOfTimeError: time is up or a signal came; the state is saved, and the same call resumes.
        KeyboardInterrupt: Ctrl-C; the state is saved.
    """
    budget = read_budget(time_budget)
    if run.train is None:
        raise InputError(f"{location(run.run)}: has no 'train' section: kmax port {run.run}")
    plan = plan_ranks()
    micro_batches = _micro_batches(run.train.global_batch_size, plan.world_size)
    run_ranks(plan, _train, run, identify(run), budget, fresh, micro_batches)
    return paths.model(run.run)


def _train(
    ranks: Ranks,
    stop: Stop,
    run: config.Run,
    identity: Identity,
    budget: Budget,
    fresh: bool,
    micro_batches: int,
) -> None:
    """The whole training as one rank sees it."""
    recipe = run.train
    assert recipe is not None
    folder = identity.state
    with contextlib.ExitStack() as stack:
        # One copy at a time, on rank 0, which alone writes; then all ranks start from the same state.
        ranks.on_main(lambda: stack.enter_context(only_copy(run.run, folder)))
        resumed: Path | None = ranks.on_main(lambda: find_checkpoint(run.run, folder, fresh))
        stack.enter_context(deterministic_algorithms())
        seed_generators(recipe.seed, step=0, rank=0)
        prepared = open_prepared(run.data.dataset)
        prepared.split(run.data.val_split)  # a wrong name shows now, not when the training is over
        val_images(prepared, run.data)
        model = build_model(run, prepared).to(ranks.device)
        state = initial_state(run, model)
        environment: dict[str, int | str] = {
            "ranks": ranks.world_size,
            "micro_batches": micro_batches,
            "device": ranks.device.type,
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
        }
        environment_before = state.restore(resumed) if resumed else environment
        ranks.broadcast_([*model.parameters(), *model.buffers()])
        model.train()
        parameters = list(model.parameters())
        isthing = torch.tensor([category.isthing for category in prepared.categories])
        criterion = Criterion(recipe.losses, len(isthing), run.model.flavour, isthing=isthing)
        if ranks.is_main:
            _announce(run, folder, state.step, environment, environment_before)
        tracker = stack.enter_context(track(run, "train", identity=identity))
        tracker.parameters({"environment": environment})
        if ranks.on_main(lambda: state.step < recipe.steps and budget.over()):
            raise InputError(f"{run.run}: {budget.reason} was over before the first step; give more time")
        batches = train_batches(
            prepared,
            run.data,
            seed=recipe.seed,
            global_batch_size=recipe.global_batch_size,
            start_step=state.step,
            rank=ranks.rank,
            world_size=ranks.world_size,
            label_stride=model.output_stride,
            micro_batches=micro_batches,
            workers=loader_workers(torch.cuda.device_count() if ranks.device.type != "cpu" else 0),
        )
        progress = stack.enter_context(
            TrainingProgress(run.run, state.step, recipe.steps, recipe.global_batch_size, ranks.is_main)
        )
        flavour = optimizer_flavour(recipe, run.model.flavour)
        checkpoint_seconds = 0.0

        while state.step < recipe.steps:
            begun = time.monotonic()
            seed_generators(recipe.seed, state.step + 1, ranks.rank)
            rate = learning_rate(state.step, recipe, flavour)
            set_learning_rates(state.optimizer, state.step, recipe, flavour)

            # The mean over micro-batches and ranks is the mean over the global batch.
            terms: dict[str, Tensor] = {}
            for batch in next(batches):
                batch = batch.to(ranks.device)
                with torch.autocast(ranks.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
                    output = model(batch.images)
                try:
                    losses = criterion(output, batch)
                except NonFiniteLossError as error:
                    raise InputError(
                        f"{run.run}: step {state.step + 1}: {error} (checkpoints are kept in {folder})"
                    ) from error
                (torch.stack(list(losses.values())).sum() / micro_batches).backward()  # type: ignore[no-untyped-call]
                for name, value in losses.items():
                    terms[name] = terms.get(name, torch.zeros_like(value)) + value.detach() / micro_batches
            ranks.average_gradients(parameters)
            if recipe.clip_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(parameters, recipe.clip_grad_norm)
            state.optimizer.step()
            state.optimizer.zero_grad(set_to_none=True)
            if state.average is not None:
                state.average.update_parameters(model)
            state.step += 1

            # One exchange gives all ranks the mean losses, and whether any rank has to stop.
            seconds = time.monotonic() - begun
            late = budget.over(seconds + checkpoint_seconds)
            votes = torch.tensor([stop.interrupted, stop.out_of_time or late], device=ranks.device).float()
            interrupted, out_of_time, *sums = ranks.sum(torch.cat([votes, torch.stack(list(terms.values()))]))
            means = {name: value / ranks.world_size for name, value in zip(terms, sums, strict=True)}
            progress.step(state.step, sum(means.values()))
            row = state.history.step(state.step, rate, means, seconds)
            if row is not None:
                tracker.metrics({name: value for name, value in row.items() if name != "step"}, state.step)

            complete = state.step == recipe.steps
            stopping = (interrupted or out_of_time) and not complete
            if stopping or complete or state.step % recipe.checkpoint_every == 0:
                begun = time.monotonic()
                if ranks.is_main:
                    state.save(folder, environment)
                checkpoint_seconds = time.monotonic() - begun
            if stopping and interrupted:
                raise KeyboardInterrupt
            if stopping:
                reason = budget.reason if late else "a signal to stop"
                where = f"saved after step {state.step} of {recipe.steps}"
                raise OutOfTimeError(f"{run.run}: {reason}: {where}; call again to resume")

        if ranks.is_main:
            publish(run, identity, state.published_model(), prepared.categories, state.history)


def build_model(run: config.Run, prepared: Prepared) -> KMaX:
    """The network of a trained run for the classes of its dataset, with the weights that it starts from."""
    assert run.train is not None
    return kmax.create_model(
        **run.model.model_dump(),
        num_classes=len(prepared.categories),
        image_size=(run.data.image_size[0], run.data.image_size[1]),
        weights=paths.weights(run.train.weights) if run.train.weights else None,
    )


def _announce(
    run: config.Run,
    folder: Path,
    step: int,
    environment: dict[str, int | str],
    environment_before: dict[str, int | str],
) -> None:
    """Say what is about to happen, and where it differs from the recipe or from the attempt before."""
    assert run.train is not None
    steps, batch = run.train.steps, run.train.global_batch_size
    if step == steps:
        say(f"{run.run}: complete in {folder}: publishing again without training")
        return
    what = f"resuming after step {step} of {steps}" if step else f"training {steps} steps"
    where = f"{environment['ranks']} {environment['device']} rank(s), {environment['threads']} thread(s) each"
    say(f"{run.run}: {what} of batch {batch} on {where}; state in {folder}")
    if (parts := int(environment["micro_batches"])) > 1:
        say(f"{run.run}: batch norm sees {batch // parts} images at a time, less than the recipe's {batch}")
    if environment_before != environment:
        before = ", ".join(f"{key} {value}" for key, value in environment_before.items())
        say(f"{run.run}: before the interruption: {before}; the result will agree to rounding only")


def _micro_batches(global_batch_size: int, world_size: int) -> int:
    """Parts in which each rank computes its share of the global batch, from KMAX_MICRO_BATCHES."""
    parts = count_from_environment("KMAX_MICRO_BATCHES", default=1)
    if parts < 1 or global_batch_size % (world_size * parts):
        raise InputError(
            f"global_batch_size {global_batch_size} cannot be divided over {world_size} rank(s) in {parts} "
            "part(s) each: change the number of GPUs, KMAX_RANKS or KMAX_MICRO_BATCHES"
        )
    return parts
