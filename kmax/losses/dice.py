"""Mask term of the PQ-style loss: dice weighted by class probability (MaX-DeepLab, equations 8 to 10)."""

from __future__ import annotations

from torch import Tensor

from kmax.losses.masks import MaskPrediction
from kmax.losses.matching import MATCHED_SHARE, Matching
from kmax.losses.targets import Targets


def dice_loss(prediction: MaskPrediction, targets: Targets, matching: Matching) -> Tensor:
    """One minus the smoothed dice of every matched pair, weighted by its class probability, per image.

    Args:
        prediction: masks read against `targets`.
        targets: at the same resolution.
        matching: pairs and weights.

    Returns:
        [B], the sum over segments, over N as the class term is, and with the share of its matched clusters.
    """
    mass = (prediction.log_probabilities.exp() @ targets.labelled.float()[:, :, None]).squeeze(2)  # [B, N]
    mass = mass.gather(1, matching.cluster.clamp(min=0))  # [B, M]
    loss = 1 - (2 * prediction.intersection + 1) / (mass + targets.areas + 1)
    weight = matching.class_probability * (targets.areas > 0)
    return (loss * weight).sum(1) * (MATCHED_SHARE / prediction.clusters)
