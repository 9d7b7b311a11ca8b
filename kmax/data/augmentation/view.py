"""An image at input size with its segments, and its conversion to network input and targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.data.batch import INPUT_MEAN, NO_SEGMENT, VOID_CLASS
from kmax.data.geometry import FloatImage, Size
from kmax.data.image_source import PADDING_OWNER, SegmentLabels


@dataclass(frozen=True)
class View:
    """An image at input size.

    Attributes:
        image: uint8 [H, W, 4], the last channel unused and padding of any value; or float32
            [H, W, 3] in 0..255 with padding 127.5, channels apart in memory, as the network reads them.
        owner: int32 [H, W]: -1 padding, 0 void, else 1 + the index in `labels`.
        labels: classes and flags of the segments.
        content_size: height and width of the part that is image.
        offset: rows above and columns left of it.
    """

    image: NDArray[Any]
    owner: NDArray[np.int32]
    labels: SegmentLabels
    content_size: Size
    offset: Size = (0, 0)

    @property
    def pixels(self) -> FloatImage:
        """float32 [H, W, 3] in 0..255; padding is 127.5."""
        if self.image.dtype != np.uint8:
            return self.image
        pixels = self.image[..., :3].astype(np.float32)
        pixels[self.owner == PADDING_OWNER] = INPUT_MEAN
        return pixels

    @property
    def content(self) -> tuple[slice, slice]:
        """Rows and columns of the part that is image."""
        (height, width), (top, left) = self.content_size, self.offset
        return slice(top, top + height), slice(left, left + width)


def words(image: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Pixels [H, W, 4] of four bytes as [H, W], moved as one; the memory is shared."""
    pixels: NDArray[np.uint32] = image.view(np.uint32)[..., 0]
    return pixels


def pixel_counts(view: View) -> NDArray[np.int64]:
    """Pixels of each owner, starting with padding and void: int64 [M + 2]."""
    from kmax.data.augmentation.pixel_loops import count_owners  # here: numba takes half a second to import

    counts = np.zeros(len(view.labels) + 2, np.int64)
    count_owners(view.owner, counts)
    return counts


@dataclass(frozen=True)
class ImageTargets:
    """Targets of one image, an index per pixel and no plane per segment; see `kmax.data.batch.Batch`."""

    segments: NDArray[np.int64]
    semantic: NDArray[np.int64]
    classes: NDArray[np.int64]
    thing_areas: NDArray[np.int64]


def targets_of(view: View, stride: int) -> ImageTargets:
    """Segments that still have a pixel, numbered from 0, without crowd; and the semantic map with crowd.

    Args:
        stride: between the rows and columns that are kept; segments and areas are of all pixels.
    """
    labels = view.labels
    areas = pixel_counts(view)[2:]
    kept = np.flatnonzero((areas > 0) & ~labels.iscrowd)
    region = view.owner[::stride, ::stride] + 1  # 0 padding, 1 void, 2.. segments
    segment_of = np.full(len(labels) + 2, NO_SEGMENT, np.int64)
    segment_of[kept + 2] = np.arange(len(kept))
    class_of = np.full(len(labels) + 2, VOID_CLASS, np.int64)
    class_of[2:] = labels.classes
    return ImageTargets(
        segments=segment_of[region],
        semantic=class_of[region],
        classes=labels.classes[kept],
        thing_areas=np.where(labels.isthing[kept], areas[kept], 0),
    )


def normalize(pixels: NDArray[Any], out: FloatImage) -> None:
    """Write the first three channels of [H, W, C] in 0..255 as network input [3, H, W] in -1..1."""
    for channel, plane in enumerate(out):
        np.subtract(pixels[..., channel], INPUT_MEAN, out=plane)
        plane /= INPUT_MEAN


def write_input(view: View, out: FloatImage) -> None:
    """Write a view as network input [3, H, W] in -1..1, padding being 0."""
    if view.image.dtype != np.uint8:
        normalize(view.image, out)
        return
    from kmax.data.augmentation.pixel_loops import blank_padding, normalize_words

    normalize_words(words(view.image), out)
    if view.content_size != view.owner.shape:
        blank_padding(view.owner, out)
