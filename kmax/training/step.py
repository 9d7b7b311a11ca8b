"""One training step, and what makes it reproducible: seeds per step, and deterministic algorithms."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils import deterministic

from kmax import config
from kmax.data.batch import Batch
from kmax.losses import Criterion
from kmax.training.checkpoint import TrainingState
from kmax.training.optimizer import learning_rate, optimizer_flavour, set_learning_rates
from kmax.training.ranks import Ranks


class TrainStep:
    """Updates a training state by one global batch.

    Args:
        run: with a `train` section.
        state: the state to update.
        isthing: bool [K], whether each class is a thing.
        ranks: this process among all that take part in a step.
    """

    def __init__(self, run: config.Run, state: TrainingState, isthing: Tensor, ranks: Ranks) -> None:
        assert run.train is not None
        self.recipe, self.state, self.ranks = run.train, state, ranks
        self.flavour = optimizer_flavour(run.train, run.model.flavour)
        self.parameters = list(state.model.parameters())
        self.criterion = Criterion(run.train.losses, len(isthing), run.model.flavour, isthing=isthing)

    def __call__(self, batches: Iterator[Sequence[Batch]]) -> tuple[dict[str, Tensor], float]:
        """Make one update with the next item of `batches`: this rank's micro-batches.

        Returns:
            The weighted loss terms (scalars), as means over this rank's micro-batches, and the base learning
            rate.

        Raises:
            NonFiniteLossError: a loss term is not finite; the state is unchanged.
        """
        recipe, state, ranks = self.recipe, self.state, self.ranks
        seed_generators(recipe.seed, state.step + 1, ranks.rank)
        rate = learning_rate(state.step, recipe, self.flavour)
        set_learning_rates(state.optimizer, state.step, recipe, self.flavour)

        # The mean over micro-batches and ranks is the mean over the global batch.
        terms: dict[str, Tensor] = {}
        micro_batches = next(batches)
        for batch in micro_batches:
            batch = batch.to(ranks.device)
            with torch.autocast(ranks.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
                output = state.model(batch.images)
            losses = self.criterion(output, batch)
            (torch.stack(list(losses.values())).sum() / len(micro_batches)).backward()  # type: ignore[no-untyped-call]
            for name, value in losses.items():
                terms[name] = terms.get(name, torch.zeros_like(value)) + value.detach() / len(micro_batches)
        ranks.average_gradients(self.parameters)
        if recipe.clip_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, recipe.clip_grad_norm)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        if state.average is not None:
            state.average.update_parameters(state.model)
        state.step += 1
        return terms, rate


def seed_generators(seed: int, step: int, rank: int) -> None:
    """Seed the generators of Python, NumPy and torch (all devices) from (seed, step, rank) alone.

    This happens before every step, so checkpoints need no generator states.
    """
    words = np.random.SeedSequence([seed, step, rank]).generate_state(2, np.uint32)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]))
    random.seed(int(words[1]))


@contextlib.contextmanager
def deterministic_algorithms() -> Iterator[None]:
    """Make torch compute the same bits for the same input; where it cannot (rarely, on CUDA), it warns."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # slow, and no result depends on it
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
