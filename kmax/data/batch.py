"""A batch of images with their targets: what loaders give and losses read.

Legend of shapes: B images, H W pixels of the network input, M segments of one image, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NO_SEGMENT = -1
VOID_CLASS = -1


@dataclass(frozen=True)
class Batch:
    """Network input and targets at input resolution.

    A pixel of a crowd region has a class (`semantic`) but no segment; the two originals treat such pixels
    differently, so both facts are kept and the losses decide. Pixels without label and padding have neither.

    Attributes:
        images: float32 [B, 3, H, W] in [-1, 1]; padding is 0.
        segments: int64 [B, H, W], index of the pixel's segment in `classes[b]`, -1 where there is none.
        semantic: int64 [B, H, W], contiguous class 0..K-1, -1 for void.
        classes: per image int64 [M_b], the contiguous class of each segment; each has at least one pixel.
        image_ids: per image the id of the panoptic JSON (COCO: int, others: str).
        content_sizes: per image (height, width) of the part of the input that is image, not padding. With
            augmentation it lies anywhere in the input, without at the top left.
        original_sizes: per image (height, width) of the image file.
    """

    images: Tensor
    segments: Tensor
    semantic: Tensor
    classes: list[Tensor]
    image_ids: list[int | str]
    content_sizes: list[tuple[int, int]]
    original_sizes: list[tuple[int, int]]

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(
            images=self.images.to(device, non_blocking=True),
            segments=self.segments.to(device, non_blocking=True),
            semantic=self.semantic.to(device, non_blocking=True),
            classes=[classes.to(device, non_blocking=True) for classes in self.classes],
            image_ids=self.image_ids,
            content_sizes=self.content_sizes,
            original_sizes=self.original_sizes,
        )
