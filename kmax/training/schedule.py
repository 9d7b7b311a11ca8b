"""Learning rate over steps: a linear warm-up, then polynomial decay that is counted from step 0.

The rate therefore jumps down a little where the warm-up ends, in both originals. They differ in the warm-up:
the TensorFlow one starts at 0 (the first update moves only the moments), the PyTorch one at a thousandth; and
in precision: TensorFlow computes in float32, which near the last step shows in the third digit.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from kmax.config import Train

TORCH_WARMUP_START = 0.001


def learning_rate(step: int, train: Train, flavour: Literal["tf", "torch"], multiplier: float = 1.0) -> float:
    """The rate of update `step` (updates done before it), to the last bit of either original.

    Args:
        step: updates done before.
        train: the recipe.
        flavour: whose schedule.
        multiplier: of the base rate, for groups of parameters such as the backbone's.
    """
    if flavour == "torch":
        return _torch_rate(step, train, multiplier)
    base = np.float32(train.learning_rate) * np.float32(multiplier)
    if step < train.warmup_steps:
        return float(base * (np.float32(step) / np.float32(train.warmup_steps)))
    left = np.float32(1) - np.float32(min(step, train.steps)) / np.float32(train.steps)
    # Rounded once: NumPy's power of float32 differs between processors in the last bit.
    return float(base * np.float32(float(left) ** float(np.float32(train.poly_power))))


def _torch_rate(step: int, train: Train, multiplier: float) -> float:
    base = train.learning_rate * multiplier
    if step < train.warmup_steps:
        part = step / train.warmup_steps
        return float(base * (TORCH_WARMUP_START * (1 - part) + part))
    return float(base * (1 - min(step, train.steps) / train.steps) ** train.poly_power)
