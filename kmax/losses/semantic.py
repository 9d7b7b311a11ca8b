"""Auxiliary semantic loss: plain cross-entropy of the semantic head that exists in training only."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from kmax.data.batch import VOID_CLASS
from kmax.losses.reduction import mean_of_nonzero


def semantic_loss(logits: Tensor, semantic: Tensor) -> Tensor:
    """Cross-entropy of pixels, per image; a void channel of the head competes, but is never a target.

    Args:
        logits: [B, K or K+1, P].
        semantic: int64 [B, P], -1 for void.

    Returns:
        [B], the mean over pixels of non-zero loss.
    """
    return mean_of_nonzero(F.cross_entropy(logits, semantic, ignore_index=VOID_CLASS, reduction="none"))
