"""A batch of images with their targets, as loaders yield it and losses read it.

Legend of shapes: B images, H W pixels of the network input, h w those of every s-th row and column with s the
stride of the labels, M segments of one image, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

NO_SEGMENT = -1
VOID_CLASS = -1
INPUT_MEAN = np.float32(127.5)  # the pixel value that becomes 0 in the input; 0..255 becomes -1..1


@dataclass(frozen=True)
class Batch:
    """Network input, and targets at the resolution of the network's output.

    A pixel of a crowd region has a class (`semantic`) but no segment; the two originals treat such pixels
    differently, so both are kept and the losses decide. Unlabelled pixels and padding have neither.

    Attributes:
        images: float32 [B, 3, H, W] in [-1, 1]; padding is 0.
        segments: int64 [B, h, w], index of the pixel's segment in `classes[b]`, -1 for none.
            Losses subsample them: as fine as the network's output, or finer by a whole factor, up to H W.
            Segments that overlap, which panoptic labels never do, have layers, [B, L, h, w]: see
            `layer_masks`.
        semantic: int64 [B, h, w], contiguous class 0..K-1, -1 for void.
        classes: per image int64 [M_b], the contiguous class of each segment; each has at least one pixel of
            the input, but may have none in `segments`.
        image_ids: per image the id of the panoptic JSON (COCO: int, others: str).
        content_sizes: per image (height, width) of the part of the input that is image, not padding. With
            augmentation it can be anywhere in the input, otherwise at the top left.
        original_sizes: per image (height, width) of the image file.
        thing_areas: per image int64 [M_b], pixels of the input that each thing has, 0 for stuff; None if
            they are not counted.
    """

    images: Tensor
    segments: Tensor
    semantic: Tensor
    classes: list[Tensor]
    image_ids: list[int | str]
    content_sizes: list[tuple[int, int]]
    original_sizes: list[tuple[int, int]]
    thing_areas: list[Tensor] | None = None

    @property
    def layers(self) -> Tensor:
        """The segments as [B, L, h, w]; L is 1 where none overlap."""
        return self.segments if self.segments.dim() == 4 else self.segments[:, None]

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        areas = self.thing_areas
        return Batch(
            images=self.images.to(device, non_blocking=True),
            segments=self.segments.to(device, non_blocking=True),
            semantic=self.semantic.to(device, non_blocking=True),
            classes=[classes.to(device, non_blocking=True) for classes in self.classes],
            image_ids=self.image_ids,
            content_sizes=self.content_sizes,
            original_sizes=self.original_sizes,
            thing_areas=None if areas is None else [area.to(device, non_blocking=True) for area in areas],
        )


def layer_masks(masks: list[Tensor]) -> Tensor:
    """Masks that may overlap, as the segments of a `Batch`.

    Args:
        masks: per image bool [M_b, h, w], those of its segments.

    Returns:
        int64 [B, L, h, w], a pixel's segments in ascending order, then -1; L is the most that a pixel has,
        and at least 1.

    Raises:
        ValueError: masks of another type or shape, or an empty list.
    """
    if not masks or any(of_image.dtype != torch.bool or of_image.dim() != 3 for of_image in masks):
        found = ", ".join(f"{of_image.dtype} {list(of_image.shape)}" for of_image in masks)
        raise ValueError(f"masks: expected bool [M, h, w] for each image, got {found or 'none'}")
    layers = []
    for of_image in masks:
        order = of_image.long().cumsum(0)
        depth = max(1, int(of_image.sum(0).max()))
        index = torch.arange(len(of_image), device=of_image.device)[:, None, None].expand(of_image.shape)
        # The n-th segment of a pixel goes to layer n; absent segments go to a last layer, which is dropped.
        filled = index.new_full((depth + 1, *of_image.shape[1:]), NO_SEGMENT)
        filled.scatter_(0, torch.where(of_image, order - 1, depth), index)
        layers.append(filled[:depth])
    return pad_sequence(layers, batch_first=True, padding_value=NO_SEGMENT)
