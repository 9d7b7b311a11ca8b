"""Mask-id cross-entropy: every labelled pixel is classified into the cluster of its segment (MaX-DeepLab)."""

from __future__ import annotations

from torch import Tensor

from kmax.losses.masks import MaskPrediction
from kmax.losses.reduction import mean_of_nonzero


def mask_id_loss(prediction: MaskPrediction) -> Tensor:
    """Cross-entropy over clusters, per image: [B], the mean over pixels of non-zero loss."""
    return mean_of_nonzero(prediction.own)
