"""Learning rate over steps: a linear warm-up, then polynomial decay that is counted from step 0.

The rate therefore jumps down a little where the warm-up ends, in both originals. They differ in the warm-up:
the TensorFlow one starts at 0 (the first update moves only the moments), the PyTorch one at a thousandth.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from kmax.config import Train

TORCH_WARMUP_START = 0.001


def learning_rate(step: int, train: Train, flavour: Literal["tf", "torch"]) -> float:
    """The base rate of update `step` (updates done before it), before the multiplier of the backbone.

    In float32, as the originals compute it: near the last step the rounding shows in the third digit.
    """
    base = np.float32(train.learning_rate)
    if step < train.warmup_steps:
        part = np.float32(step) / np.float32(train.warmup_steps)
        if flavour == "torch":
            part = TORCH_WARMUP_START * (1 - part) + part
        return float(base * part)
    done = np.float32(min(step, train.steps)) / np.float32(train.steps)
    return float(base * np.power(np.float32(1) - done, np.float32(train.poly_power)))
