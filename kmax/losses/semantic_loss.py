"""Auxiliary semantic loss: plain cross-entropy of the semantic head that exists in training only.

The TensorFlow recipe of Cityscapes takes only the worst fifth of the pixels, and counts those of small
instances three times.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kmax.config import SmallInstances
from kmax.data.batch import VOID_CLASS, Batch
from kmax.losses.reduction import mean_of_nonzero


def semantic_loss(
    logits: Tensor, semantic: Tensor, weight: Tensor | None = None, top_k: float | None = None
) -> Tensor:
    """Cross-entropy of pixels, per image; a void channel of the head competes, but is never a target.

    Args:
        logits: [B, K or K+1, P].
        semantic: int64 [B, P], -1 for void.
        weight: [B, P], of each pixel; None: all alike.
        top_k: share of the pixels with the largest weighted losses that is kept; None: all.

    Returns:
        [B], the mean over pixels of non-zero loss.
    """
    losses = F.cross_entropy(logits, semantic, ignore_index=VOID_CLASS, reduction="none")
    if weight is not None:
        losses = losses * weight
    if top_k is not None:
        # Of all pixels, void ones too, and rounded in float32, as the original does.
        count = int(np.round(np.float32(top_k) * np.float32(losses.shape[1])))
        losses = losses.topk(count, dim=1, sorted=False).values
    return mean_of_nonzero(losses)


def small_instance_weights(batch: Batch, isthing: Tensor, small: SmallInstances) -> Tensor:
    """Weight of every pixel in the semantic loss, at the resolution of the batch's labels.

    Args:
        batch: with labels; areas are those of `thing_areas`, or of the labels where nobody counted.
        isthing: bool [K].
        small: which instances are small, and their weight.

    Returns:
        float32 [B, h, w].
    """
    weights = torch.ones_like(batch.semantic, dtype=torch.float32)
    for image, classes in enumerate(batch.classes):
        segments = batch.layers[image]
        if batch.thing_areas is None:
            areas = torch.bincount(segments.flatten() + 1, minlength=len(classes) + 1)[1:]
        else:
            areas = batch.thing_areas[image]
        is_small = isthing.to(classes.device)[classes] & (areas < small.area)
        on_small = torch.cat([is_small.new_zeros(1), is_small])[segments + 1].any(0)
        weights[image] = torch.where(on_small, small.weight, 1.0)
    return weights
