"""The same bits from the same input: random numbers by step, and algorithms that do not race."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils import deterministic


def seed_generators(seed: int, step: int, rank: int) -> None:
    """Seed the generators of Python, NumPy and torch (all devices) from (seed, step, rank) alone.

    Done before every step, so that no state of a generator has to outlive an interruption.
    """
    words = np.random.SeedSequence([seed, step, rank]).generate_state(2, np.uint32)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]))
    random.seed(int(words[1]))


@contextlib.contextmanager
def deterministic_algorithms() -> Iterator[None]:
    """Have torch compute the same bits for the same input; where it cannot (rarely, on CUDA), it warns."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it costs time and changes no result
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
