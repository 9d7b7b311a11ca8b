"""At which resolution the predictions of the k-means layers are compared with the ground truth.

Both originals enlarge the mask logits and pixel features of the layers (strides 32, 16 and 8) to the final
resolution, bilinearly. The alternative, our own, reads the ground truth at each layer's native stride:
cheaper, but small segments do not exist there.

Features are enlarged only where pixels are sampled, which gives the same numbers and saves most of the work.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kmax.config import Flavour
from kmax.losses.loss_flavour import CHOICES


def align_corners(flavour: Flavour, size: tuple[int, int]) -> bool:
    """Whether `flavour` aligns corners when it enlarges to `size` (h, w)."""
    return CHOICES[flavour].align_even_heights or size[0] % 2 == 1


def enlarge(maps: Tensor, size: tuple[int, int], flavour: Flavour) -> Tensor:
    """Bilinear interpolation of [B, C, h_i, w_i] to [B, C, h, w]; nothing to do where the sizes agree."""
    if maps.shape[2:] == torch.Size(size):
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=align_corners(flavour, size))


def features_at(features: Tensor, indices: Tensor | None, size: tuple[int, int], flavour: Flavour) -> Tensor:
    """Features of sampled pixels, enlarged where they are of a coarser stride.

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
