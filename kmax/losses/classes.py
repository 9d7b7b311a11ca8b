"""Class term of the PQ-style loss: cross-entropy weighted by mask quality (MaX-DeepLab, equation 10)."""

from __future__ import annotations

from torch import Tensor

from kmax.losses.matching import Matching
from kmax.losses.reduction import mean_of_nonzero


def class_loss(class_logits: Tensor, matching: Matching) -> Tensor:
    """Cross-entropy of the clusters' classes, per image.

    Args:
        class_logits: [B, N, K+1].
        matching: targets and weights.

    Returns:
        [B], the mean over clusters of non-zero loss.
    """
    cross_entropy = -(matching.class_target * class_logits.log_softmax(2)).sum(2)  # [B, N]
    return mean_of_nonzero(cross_entropy * matching.class_weight)
