"""Which pixels the losses read, and at which resolution.

Pixels are drawn so that small segments count as much as large ones (CMT-DeepLab, arXiv 2206.08948, section
3.3). Both originals enlarge the mask logits and pixel features of the k-means layers (strides 32, 16 and 8)
to the final resolution, bilinearly. The alternative, our own, reads the ground truth at each layer's native
stride: cheaper, but small segments do not exist there. Features are enlarged only where pixels are sampled,
which gives the same numbers and saves most of the work.

Shapes: B images, C or D channels, P pixels, k sampled pixels, h_i w_i pixels of a layer, h w final ones.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from kmax.config import Flavour
from kmax.losses.loss_flavour import LOSS_FLAVOURS
from kmax.losses.targets import Targets

Sampler = Callable[[Tensor, int], Tensor]
"""Draws k of the P pixels of each image without replacement: (logits [B, P], k) -> indices [B, k]."""

VOID_LOGIT = -99999.0


def gumbel_top_k(logits: Tensor, k: int) -> Tensor:
    """Draw k pixels without replacement, with probabilities softmax(`logits`) (the Gumbel top-k trick).

    Args:
        logits: [B, P].
        k: number of pixels, at most P.

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


def align_corners(flavour: Flavour, size: tuple[int, int]) -> bool:
    """Whether `flavour` aligns corners when it enlarges to `size` (h, w)."""
    return LOSS_FLAVOURS[flavour].align_even_heights or size[0] % 2 == 1


def enlarge(maps: Tensor, size: tuple[int, int], flavour: Flavour) -> Tensor:
    """Bilinear interpolation of [B, C, h_i, w_i] to [B, C, h, w]; no-op if the sizes agree."""
    if maps.shape[2:] == torch.Size(size):
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=align_corners(flavour, size))


def features_at(features: Tensor, indices: Tensor | None, size: tuple[int, int], flavour: Flavour) -> Tensor:
    """Features of sampled pixels, interpolated if their stride is coarser.

    Args:
        features: [B, D, h_i, w_i].
        indices: int64 [B, k], pixels of the (h, w) grid in row order; None: all.
        size: (h, w).
        flavour: decides how corners are aligned.

    Returns:
        [B, D, k].
    """
    if indices is None:
        return enlarge(features, size, flavour).flatten(2)
    if features.shape[2:] == torch.Size(size):
        flat = features.flatten(2)
        return flat.gather(2, indices[:, None].expand(-1, flat.shape[1], -1))
    aligned = align_corners(flavour, size)
    at = torch.stack(
        [_normalised(indices % size[1], size[1], aligned), _normalised(indices // size[1], size[0], aligned)],
        -1,
    )
    sampled = F.grid_sample(
        features, at[:, :, None], mode="bilinear", padding_mode="border", align_corners=aligned
    )
    return sampled.squeeze(3)


def _normalised(position: Tensor, length: int, aligned: bool) -> Tensor:
    """Pixel positions 0..length-1 in `grid_sample`'s coordinates, -1 to 1."""
    return position * (2 / max(length - 1, 1)) - 1 if aligned else (2 * position + 1) / length - 1
