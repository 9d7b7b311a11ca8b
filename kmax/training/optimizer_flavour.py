"""Where the optimisers and learning-rate schedules of the two originals differ.

================  ===================================  =====================================
choice            "tf" (deeplab2)                      "torch" (bytedance/kmax-deeplab)
================  ===================================  =====================================
epsilon of Adam   outside the bias correction (Keras)  inside it (`torch.optim.AdamW`)
first rate        0: only the moments move             a thousandth of the base rate
precision         float32                              float64
================  ===================================  =====================================
"""

from __future__ import annotations

from dataclasses import dataclass

from kmax.config import Flavour


@dataclass(frozen=True)
class OptimizerFlavour:
    """What one original does.

    Attributes:
        keras_adam: Adam's epsilon is added to the uncorrected second moment.
        warmup_start: the rate of the first update, as a part of the base rate.
        rate_in_float32: the schedule is computed in single precision, which near the last step shows in the
            third digit.
    """

    keras_adam: bool
    warmup_start: float
    rate_in_float32: bool


OPTIMIZER_FLAVOURS: dict[Flavour, OptimizerFlavour] = {
    "tf": OptimizerFlavour(keras_adam=True, warmup_start=0.0, rate_in_float32=True),
    "torch": OptimizerFlavour(keras_adam=False, warmup_start=0.001, rate_in_float32=False),
}
