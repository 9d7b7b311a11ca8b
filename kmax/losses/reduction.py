"""How the values of pixels or clusters become the loss of an image."""

from __future__ import annotations

from torch import Tensor


def mean_of_nonzero(values: Tensor) -> Tensor:
    """Mean of the entries of [B, X] that are not exactly zero: [B]; 0 where all are.

    Ignored entries are zero, and so are those that the network gets perfectly right: neither dilutes it.
    """
    return values.sum(1) / (values != 0).sum(1).clamp(min=1)
