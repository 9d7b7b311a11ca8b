"""An image at input size, with what its segments are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.data.geometry import FloatImage, Size
from kmax.data.image_source import Labels

MEAN = np.float32(127.5)
PADDING_OWNER, NOT_PASTED = -1, -2


@dataclass(frozen=True)
class View:
    """An image at input size.

    Attributes:
        image: uint8 [H, W, 4], the last channel without meaning and padding of any value; or float32
            [H, W, 3] in 0..255 with padding 127.5, channels apart in memory, as the network reads them.
        owner: int32 [H, W]: -1 padding, 0 void, else 1 + the index in `labels`.
        labels: what the segments are.
        content_size: height and width of the part that is image.
        offset: rows above and columns left of it.
    """

    image: NDArray[Any]
    owner: NDArray[np.int32]
    labels: Labels
    content_size: Size
    offset: Size = (0, 0)

    @property
    def pixels(self) -> FloatImage:
        """float32 [H, W, 3] in 0..255; padding is 127.5."""
        if self.image.dtype != np.uint8:
            return self.image
        pixels = self.image[..., :3].astype(np.float32)
        pixels[self.owner == PADDING_OWNER] = MEAN
        return pixels

    @property
    def content(self) -> tuple[slice, slice]:
        """Rows and columns of the part that is image."""
        (height, width), (top, left) = self.content_size, self.offset
        return slice(top, top + height), slice(left, left + width)


def words(image: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Pixels [H, W, 4] of four bytes as [H, W], to be moved as one; the memory is shared."""
    pixels: NDArray[np.uint32] = image.view(np.uint32)[..., 0]
    return pixels


def pixel_counts(view: View) -> NDArray[np.int64]:
    """Pixels of each owner, from that of padding on: int64 [M + 2]."""
    from kmax.data.label_loops import count_owners  # here: numba takes half a second to import

    counts = np.zeros(len(view.labels) + 2, np.int64)
    count_owners(view.owner, counts)
    return counts


def normalize(pixels: NDArray[Any], out: FloatImage) -> None:
    """Write the first three channels of [H, W, C] in 0..255 as network input [3, H, W] in -1..1."""
    for channel, plane in enumerate(out):
        np.subtract(pixels[..., channel], MEAN, out=plane)
        plane /= MEAN


def write_input(view: View, out: FloatImage) -> None:
    """Write a view as network input [3, H, W] in -1..1, padding being 0."""
    if view.image.dtype != np.uint8:
        normalize(view.image, out)
        return
    from kmax.data.augmentation.pixel_loops import blank_padding, normalize_words

    normalize_words(words(view.image), out)
    if view.content_size != view.owner.shape:
        blank_padding(view.owner, out)
