"""Learning rate over steps: a linear warm-up, then polynomial decay that is counted from step 0.

The rate therefore jumps down a little where the warm-up ends, in both originals.
`optimizer_flavour` says where they differ.
"""

from __future__ import annotations

import numpy as np

from kmax.config import Flavour, Train
from kmax.training.optimizer_flavour import OPTIMIZER_FLAVOURS


def learning_rate(step: int, train: Train, flavour: Flavour, multiplier: float = 1.0) -> float:
    """The rate of update `step` (updates done before it), to the last bit of either original.

    Args:
        step: updates done before.
        train: the recipe.
        flavour: whose schedule.
        multiplier: of the base rate, for groups of parameters such as the backbone's.
    """
    differences = OPTIMIZER_FLAVOURS[flavour]
    rate = _rate_in_float32 if differences.rate_in_float32 else _rate
    return rate(step, train, multiplier, differences.warmup_start)


def _rate(step: int, train: Train, multiplier: float, start: float) -> float:
    base = train.learning_rate * multiplier
    if step < train.warmup_steps:
        part = step / train.warmup_steps
        return float(base * (start * (1 - part) + part))
    return float(base * (1 - min(step, train.steps) / train.steps) ** train.poly_power)


def _rate_in_float32(step: int, train: Train, multiplier: float, start: float) -> float:
    base = np.float32(train.learning_rate) * np.float32(multiplier)
    if step < train.warmup_steps:
        part = np.float32(step) / np.float32(train.warmup_steps)
        return float(base * (np.float32(start) * (1 - part) + part))
    left = np.float32(1) - np.float32(min(step, train.steps)) / np.float32(train.steps)
    # Rounded once: NumPy's power of float32 differs between processors in the last bit.
    return float(base * np.float32(float(left) ** float(np.float32(train.poly_power))))
