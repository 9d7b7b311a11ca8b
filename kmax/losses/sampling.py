"""Pixels drawn so that small segments count as much as large ones (CMT-DeepLab, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kmax.losses.targets import Targets

Sampler = Callable[[Tensor, int], Tensor]
"""Draws k of the P pixels of each image without replacement: (logits [B, P], k) -> indices [B, k]."""

VOID_LOGIT = -99999.0


def gumbel_top_k(logits: Tensor, k: int) -> Tensor:
    """Draw k pixels without replacement, with the odds of a softmax over `logits` (the Gumbel top-k trick).

    Args:
        logits: [B, P].
        k: how many, at most P.

    Returns:
        Indices [B, k], by the noise of torch's default generator.
    """
    # The logarithm of an exponential variable is a negated Gumbel variable.
    noise = torch.empty_like(logits).exponential_().log_()
    return torch.topk(logits - noise, k, dim=1, sorted=False).indices


def sample_logits(targets: Targets, temperature: float) -> Tensor:
    """Logits [B, P] of drawing each pixel: log(pixels / area of its segment) * temperature; void is barred.

    A pixel of several segments has the mean of their areas, at least 1. One with a class but no segment (a
    crowd region, TensorFlow flavour) counts as a segment of area 1.
    """
    pixels = targets.labelled.shape[1]
    area = (targets.areas[:, None] @ targets.shares).squeeze(1).clamp(min=1)
    return torch.log(pixels / area) * temperature + targets.void * VOID_LOGIT
