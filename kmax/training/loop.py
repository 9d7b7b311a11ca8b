"""Training of one run, from its start or from where an earlier attempt stopped.

    kmax train RUN                                        one device, or all GPUs of this node
    KMAX_RANKS=2 kmax train RUN                           two CPU processes (gloo)
    srun --nodes=2 --ntasks-per-node=1 kmax train RUN     all GPUs of two nodes

Resumption is exact: the samples and random numbers of a step are functions of (seed, step, rank) alone, so
the weights, the optimiser's moments, the moving average and the history are the whole state.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import kmax
from kmax import config, paths
from kmax.data.batch import Batch
from kmax.data.datasets import Prepared, open_prepared
from kmax.data.image_list import val_images
from kmax.data.loading.loader import train_batches
from kmax.errors import InputError, OutOfTimeError
from kmax.losses import NonFiniteLossError
from kmax.machine import gpu_count, loader_workers, plan_ranks, positive_count
from kmax.model.kmax import KMaX
from kmax.processes.worker_processes import NoResultError
from kmax.runs.families import location
from kmax.runs.identity import Identity, identify
from kmax.tracking.tracker import track
from kmax.training.budget import Budget, Stop, read_budget
from kmax.training.checkpoint import TrainingState, find_checkpoint, initial_state, only_copy
from kmax.training.loopback import stay_on_this_machine
from kmax.training.publish import publish
from kmax.training.ranks import Ranks, run_ranks
from kmax.training.step import TrainStep, deterministic_algorithms, seed_generators
from kmax.training.training_log import TrainingProgress, log

Environment = dict[str, int | str]


def train_run(run: config.Run, *, fresh: bool = False, time_budget: float | None = None) -> Path:
    """Train `run`, resume it, or publish a complete training again; starts its own ranks.

    Args:
        run: with a `train` section.
        fresh: remove the checkpoints of the same parameters and start again.
        time_budget: seconds after which to save a checkpoint and stop; None: KMAX_TIME_BUDGET, or no limit.

    Returns:
        `results/R/model.safetensors`; `reports/metrics/R/history.csv` is written too.

    Raises:
        InputError: bad input, a second copy of this training, a loss that is not finite, or a time budget
            that ended before the first step.
        OutOfTimeError: out of time, or stopped by a signal; the state is saved, and the same call resumes.
        KeyboardInterrupt: Ctrl-C; the state is saved.
    """
    budget = read_budget(time_budget)
    if run.train is None:
        raise InputError(f"{location(run.run)}: the run has no 'train' section; run: kmax port {run.run}")
    plan = plan_ranks()
    micro_batches = _micro_batches(run.train.global_batch_size, plan.world_size)
    stay_on_this_machine(plan)
    run_ranks(plan, _train, Job(run, run.train, identify(run), budget, fresh, micro_batches))
    return paths.model(run.run)


@dataclass(frozen=True)
class Job:
    """Arguments of one attempt, shared by all ranks.

    Attributes:
        run: parameters; `recipe` is its `train` section.
        identity: of the run; its state folder holds the checkpoints.
        budget: when this attempt must end.
        fresh: start again.
        micro_batches: parts in which each rank computes its share of the global batch.
    """

    run: config.Run
    recipe: config.Train
    identity: Identity
    budget: Budget
    fresh: bool
    micro_batches: int


def _train(ranks: Ranks, stop: Stop, job: Job) -> None:
    """The whole training on one rank."""
    run, recipe, folder = job.run, job.recipe, job.identity.state
    with contextlib.ExitStack() as stack:
        prepared, state, environment = _open_state(ranks, job, stack)
        train_step = TrainStep(run, state, _isthing(prepared), ranks)
        tracker = stack.enter_context(track(run, "train", identity=job.identity))
        tracker.parameters({"environment": environment})
        if ranks.on_main(lambda: state.step < recipe.steps and job.budget.over()):
            raise InputError(f"{run.run}: {job.budget.reason} ended before the first step; increase it")
        batches = stack.enter_context(contextlib.closing(_batches(job, prepared, state, ranks, stop)))
        progress = stack.enter_context(
            TrainingProgress(run.run, state.step, recipe.steps, recipe.global_batch_size, ranks.is_main)
        )
        checkpoint_seconds = 0.0

        while state.step < recipe.steps:
            begun = time.monotonic()
            try:
                terms, rate = train_step(batches)
            except NonFiniteLossError as error:
                where = f"{run.run}: step {state.step + 1}"
                raise InputError(f"{where}: {error} (checkpoints are kept in {folder})") from error
            except NoResultError as error:
                raise _stopped_without_data(ranks, job, state, environment, error) from error
            seconds = time.monotonic() - begun
            is_late = job.budget.over(seconds + checkpoint_seconds)
            votes = Votes(stop.interrupted, stop.out_of_time or is_late)
            votes, means = _exchange(ranks, votes, terms)
            progress.step(state.step, sum(means.values()))
            row = state.history.step(state.step, rate, means, seconds)
            if row is not None:
                tracker.metrics({name: value for name, value in row.items() if name != "step"}, state.step)

            is_complete = state.step == recipe.steps
            is_stopping = (votes.interrupted or votes.out_of_time) and not is_complete
            if is_stopping or is_complete or state.step % recipe.checkpoint_every == 0:
                begun = time.monotonic()
                if ranks.is_main:
                    state.save(folder, environment)
                checkpoint_seconds = time.monotonic() - begun
            if is_stopping and votes.interrupted:
                raise KeyboardInterrupt
            if is_stopping:
                reason = job.budget.reason if is_late else "received a stop signal"
                saved = f"saved after step {state.step} of {recipe.steps}"
                raise OutOfTimeError(f"{run.run}: {reason}: {saved}; run again to resume")

        if ranks.is_main:
            publish(run, job.identity, state.published_model(), prepared.categories, state.history)


def _stopped_without_data(
    ranks: Ranks, job: Job, state: TrainingState, environment: Environment, error: NoResultError
) -> Exception:
    """The end of a training that has to stop while its loader's workers do not answer.

    A rank alone saves the steps done; the ranks of several are inside of a step and cannot.
    """
    where = f"{job.run.run}: received a stop signal, and {error}"
    if ranks.world_size > 1:
        return InputError(f"{where}; run again to resume from the last checkpoint")
    state.save(job.identity.state, environment)
    saved = f"saved after step {state.step} of {job.recipe.steps}"
    return OutOfTimeError(f"{where}: {saved}; run again to resume")


def _open_state(
    ranks: Ranks, job: Job, stack: contextlib.ExitStack
) -> tuple[Prepared, TrainingState, Environment]:
    """Lock the state folder, and build or restore the same state on all ranks.

    Args:
        stack: keeps the lock, and torch in deterministic mode.

    Returns:
        The dataset, the state, and the environment of this attempt.
    """
    run, folder = job.run, job.identity.state
    # Only rank 0 writes to the state folder, so only rank 0 locks it.
    ranks.on_main(lambda: stack.enter_context(only_copy(run.run, folder)))
    resumed: Path | None = ranks.on_main(lambda: find_checkpoint(run.run, folder, job.fresh))
    stack.enter_context(deterministic_algorithms())
    seed_generators(job.recipe.seed, step=0, rank=0)
    prepared = open_prepared(run.data.dataset)
    prepared.split(run.data.val_split)  # a wrong name fails now, not after the training
    val_images(prepared, run.data)
    state = initial_state(run, build_model(run, prepared).to(ranks.device))
    environment = _environment(ranks, job.micro_batches)
    environment_before = state.restore(resumed) if resumed else environment
    ranks.broadcast_([*state.model.parameters(), *state.model.buffers()])
    state.model.train()
    if ranks.is_main:
        _announce(job, state.step, environment, environment_before)
    return prepared, state, environment


@dataclass(frozen=True)
class Votes:
    """Whether any rank has to stop after this step.

    Attributes:
        interrupted: Ctrl-C.
        out_of_time: another signal, or the time budget.
    """

    interrupted: bool
    out_of_time: bool


def _exchange(ranks: Ranks, votes: Votes, terms: dict[str, Tensor]) -> tuple[Votes, dict[str, float]]:
    """Combine the votes and losses of all ranks in one exchange.

    Returns:
        The votes of all ranks together, and the loss terms as means over ranks; the same on every rank.
    """
    own = torch.tensor([votes.interrupted, votes.out_of_time], device=ranks.device).float()
    interrupted, out_of_time, *sums = ranks.sum(torch.cat([own, torch.stack(list(terms.values()))]))
    means = {name: value / ranks.world_size for name, value in zip(terms, sums, strict=True)}
    return Votes(bool(interrupted), bool(out_of_time)), means


def build_model(run: config.Run, prepared: Prepared) -> KMaX:
    """The network of a trained run for the classes of its dataset, with its initial weights."""
    assert run.train is not None
    return kmax.create_model(
        **run.model.model_dump(),
        num_classes=len(prepared.categories),
        image_size=(run.data.image_size[0], run.data.image_size[1]),
        weights=paths.weights(run.train.weights) if run.train.weights else None,
    )


def _isthing(prepared: Prepared) -> Tensor:
    return torch.tensor([category.isthing for category in prepared.categories])


def _batches(
    job: Job, prepared: Prepared, state: TrainingState, ranks: Ranks, stop: Stop
) -> Generator[list[Batch], None, None]:
    """This rank's micro-batches of every step from the state's step on."""
    return train_batches(
        prepared,
        job.run.data,
        seed=job.recipe.seed,
        global_batch_size=job.recipe.global_batch_size,
        start_step=state.step,
        rank=ranks.rank,
        world_size=ranks.world_size,
        label_stride=state.model.output_stride,
        micro_batches=job.micro_batches,
        workers=loader_workers(gpu_count() if ranks.device.type != "cpu" else 0),
        stopping=lambda: stop.interrupted or stop.out_of_time,
    )


def _environment(ranks: Ranks, micro_batches: int) -> Environment:
    """Facts other than the run's identity on which the bits of the result depend."""
    return {
        "ranks": ranks.world_size,
        "micro_batches": micro_batches,
        "device": ranks.device.type,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }


def _announce(job: Job, step: int, environment: Environment, environment_before: Environment) -> None:
    """Log what this attempt does, and where it differs from the recipe or from the previous attempt."""
    name, steps, batch = job.run.run, job.recipe.steps, job.recipe.global_batch_size
    folder = job.identity.state
    if step == steps:
        log(f"{name}: training is complete in {folder}; only the results are published again")
        return
    what = f"resuming after step {step} of {steps}" if step else f"training {steps} steps"
    where = f"{environment['ranks']} {environment['device']} rank(s), {environment['threads']} thread(s) each"
    log(f"{name}: {what} of batch {batch} on {where}; state in {folder}")
    if job.micro_batches > 1:
        images = batch // job.micro_batches
        log(f"{name}: batch norm statistics are of {images} images, fewer than the recipe's batch of {batch}")
    if environment_before != environment:
        before = ", ".join(f"{key} {value}" for key, value in environment_before.items())
        log(
            f"{name}: the environment differs from before the interruption ({before}): "
            "the result will agree only up to rounding"
        )


def _micro_batches(global_batch_size: int, world_size: int) -> int:
    """Parts in which each rank computes its share of the global batch, from KMAX_MICRO_BATCHES."""
    parts = positive_count("KMAX_MICRO_BATCHES") or 1
    if global_batch_size % (world_size * parts):
        raise InputError(
            f"global_batch_size {global_batch_size} cannot be divided over {world_size} rank(s) in {parts} "
            "part(s) each: change the number of GPUs, KMAX_RANKS or KMAX_MICRO_BATCHES"
        )
    return parts
