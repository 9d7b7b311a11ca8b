"""What the mask terms share: one softmax over clusters, and how likely each pixel's own cluster is."""

from __future__ import annotations

from dataclasses import dataclass

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
        own: [B, P], negative log-likelihood of the cluster of the pixel's segment; 0 without segment.
        clusters: N.
    """

    log_probabilities: Tensor
    own: Tensor
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
    own_cluster = matching.cluster.gather(1, targets.segment.clamp(min=0)).where(targets.segment >= 0, -1)
    own = F.nll_loss(shared, own_cluster, ignore_index=-1, reduction="none")
    return MaskPrediction(shared, own, clusters=mask_logits.shape[1])
