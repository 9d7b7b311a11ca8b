"""The terms of the loss that compare masks and classes with their targets, each per image.

- mask id: every labelled pixel is classified into the cluster of its segment (MaX-DeepLab, arXiv 2012.00759).
- dice and class: the PQ-style loss (MaX-DeepLab, equations 8 to 10), each weighted by the other's quality.
- semantic: plain cross-entropy of the semantic head, which exists in training only. The TensorFlow recipe of
  Cityscapes uses only the worst fifth of the pixels, and counts those of small instances three times.

Pixel-wise instance discrimination is in `instance_discrimination`.

Shapes: B images, N clusters, M segments (padded), K classes, P pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kmax.config import SmallInstances
from kmax.data.batch import VOID_CLASS, Batch
from kmax.losses.matching import MATCHED_SHARE, Matching
from kmax.losses.sampling import VOID_LOGIT
from kmax.losses.targets import Targets


@dataclass(frozen=True)
class MaskPrediction:
    """A mask prediction compared with its targets.

    Attributes:
        log_probabilities: [B, N, P], log-softmax over clusters; N+1 of them when segments are left over (see
            `read_masks`).
        own: [B, P], negative log-likelihood of the cluster of the pixel's segment, the mean of them where
            segments overlap; 0 without segment.
        intersection: [B, M], of each segment with the soft mask of its cluster.
        clusters: N.
    """

    log_probabilities: Tensor
    own: Tensor
    intersection: Tensor
    clusters: int


def log_probabilities(mask_logits: Tensor) -> Tensor:
    """Log-softmax over clusters of [B, N, h, w], with the pixels in one axis: [B, N, P]."""
    return mask_logits.flatten(2).log_softmax(1)


def read_masks(
    mask_logits: Tensor, targets: Targets, matching: Matching, shared: Tensor | None = None
) -> MaskPrediction:
    """Compare a mask prediction with its targets, once for all terms.

    A segment that found no cluster is matched to one more cluster of logit -99999, as in the TensorFlow
    original: its pixels cost about 1e5 each. It does not happen in a run with enough clusters.

    Args:
        mask_logits: [B, N, h, w].
        targets: at the same resolution.
        matching: pairs of segments and clusters.
        shared: the result of `log_probabilities(mask_logits)`, where it was needed before.
    """
    if not matching.complete:
        shared = log_probabilities(F.pad(mask_logits, (0, 0, 0, 0, 0, 1), value=VOID_LOGIT))
    elif shared is None:
        shared = log_probabilities(mask_logits)
    if targets.segment is None:
        clusters = matching.cluster.clamp(min=0)[:, :, None].expand(-1, -1, shared.shape[2])
        of_segments = shared.gather(1, clusters)  # [B, M, P]
        own = -(targets.shares * of_segments).sum(1)
        intersection = (targets.shares * of_segments.exp()).sum(2)
    else:
        own_cluster = matching.cluster.gather(1, targets.segment.clamp(min=0)).where(targets.labelled, -1)
        own = F.nll_loss(shared, own_cluster, ignore_index=-1, reduction="none")
        # A pixel has one segment: with the probability of its cluster at hand, no map per segment is needed.
        intersection = (targets.shares @ torch.exp(-own)[:, :, None]).squeeze(2)
    return MaskPrediction(shared, own, intersection, clusters=mask_logits.shape[1])


def mask_id_loss(prediction: MaskPrediction) -> Tensor:
    """Cross-entropy over clusters: [B], the mean over pixels of non-zero loss."""
    return mean_of_nonzero(prediction.own)


def dice_loss(prediction: MaskPrediction, targets: Targets, matching: Matching) -> Tensor:
    """One minus the smoothed dice of every matched pair, weighted by its class probability.

    Args:
        prediction: masks compared with `targets`.
        targets: at the same resolution.
        matching: pairs and weights.

    Returns:
        [B], the sum over segments divided by N, times the weight of matched clusters in the class term.
    """
    mass = (prediction.log_probabilities.exp() @ targets.labelled.float()[:, :, None]).squeeze(2)  # [B, N]
    mass = mass.gather(1, matching.cluster.clamp(min=0))  # [B, M]
    loss = 1 - (2 * prediction.intersection + 1) / (mass + targets.areas + 1)
    weight = matching.class_probability * (targets.areas > 0)
    return (loss * weight).sum(1) * (MATCHED_SHARE / prediction.clusters)


def class_loss(class_logits: Tensor, matching: Matching) -> Tensor:
    """Cross-entropy of the clusters' classes, weighted by mask quality.

    Args:
        class_logits: [B, N, K+1].
        matching: targets and weights.

    Returns:
        [B], the mean over clusters of non-zero loss.
    """
    cross_entropy = -(matching.class_target * class_logits.log_softmax(2)).sum(2)  # [B, N]
    return mean_of_nonzero(cross_entropy * matching.class_weight)


def semantic_loss(
    logits: Tensor, semantic: Tensor, weight: Tensor | None = None, top_k: float | None = None
) -> Tensor:
    """Cross-entropy of pixels; a void channel of the head competes, but is never a target.

    Args:
        logits: [B, K or K+1, P].
        semantic: int64 [B, P], -1 for void.
        weight: [B, P], of each pixel; None: equal weights.
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
        batch: with labels. Areas are its `thing_areas`, or counted from the labels where it has none.
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


def mean_of_nonzero(values: Tensor) -> Tensor:
    """Mean of the entries of [B, X] that are not exactly zero: [B]; 0 where all are.

    Ignored entries are zero, and so are those that the network predicts perfectly: neither dilutes the mean.
    """
    return values.sum(1) / (values != 0).sum(1).clamp(min=1)
