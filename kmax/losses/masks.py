"""What the mask terms share: one softmax over clusters, and how likely each pixel's own cluster is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from kmax.losses.matching import Matching
from kmax.losses.sampling import VOID_LOGIT
from kmax.losses.targets import Targets


@dataclass(frozen=True)
class MaskPrediction:
    """A mask prediction read against its targets.

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
    """Read a mask prediction against its targets.

    A segment that found no cluster is matched to one more cluster of logit -99999, as in the TensorFlow
    original: its pixels cost about 1e5 each, which a run with enough clusters never sees.

    Args:
        mask_logits: [B, N, h, w].
        targets: at the same resolution.
        matching: which cluster is whose.
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
