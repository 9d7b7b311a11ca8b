"""Shrinking images that are read in strips: the result for the whole image, with bounded memory.

It is the same to the bit, except that recent versions of Pillow resize some images along y first. There,
single values may differ by 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.data.augmentation.fitting import Pipeline, fitting_size
from kmax.data.augmentation.resampling import interpolate_rows, resize_with_pillow, source_rows, whole
from kmax.data.augmentation.view import normalize
from kmax.data.formats.image_strips import ImageStrips
from kmax.data.geometry import FloatImage, RowResize, Size

Resize = Callable[[ImageStrips, Size], NDArray[Any]]


def write_fitted_strips(
    image: ImageStrips, out: FloatImage, preprocessing: Pipeline, native: bool = False
) -> Size:
    """As `kmax.data.augmentation.fitting.write_fitted`, from strips.

    Args:
        image: the strips; they must not be smaller than the result.
        out: float32 [3, H, W] in -1..1, all of which is written.
        preprocessing: the original whose resampling is used; None: antialiased.
        native: keep the image's size unless it is larger than the input.

    Returns:
        The height and width of the part of `out` that is image.
    """
    size = fitting_size(image.original_size, (out.shape[1], out.shape[2]), preprocessing, native)
    ways: dict[Pipeline, Resize] = {"tf": _between_pixels, "torch": shrink_with_pillow, None: _antialiased}
    height, width = size
    out[:, height:] = 0
    out[:, :height, width:] = 0
    normalize(ways[preprocessing](image, size), out[:, :height, :width])
    return size


def shrink_with_pillow(image: ImageStrips, size: Size) -> NDArray[np.uint8]:
    """As Pillow resizes bilinearly, along x first, then along y: uint8 [H, W, 3]."""
    narrow = np.empty((image.size[0], size[1], 3), np.uint8)
    for rows, strip in _placed(image):
        same_height = (len(strip), size[1])
        narrow[rows] = resize_with_pillow(strip, same_height, whole(same_height))
    return resize_with_pillow(narrow, size, whole(size))


def _between_pixels(image: ImageStrips, size: Size) -> FloatImage:
    """As deeplab2 resizes: only two source rows are needed for each row of the result."""
    needed = source_rows(image.size[0], size[0])
    kept = np.empty((len(needed), image.size[1], 3), np.uint8)
    for rows, strip in _placed(image):
        first, last = np.searchsorted(needed, (rows.start, rows.stop))
        kept[first:last] = strip[needed[first:last] - rows.start]
    return interpolate_rows(kept, needed, image.size, size)


def _antialiased(image: ImageStrips, size: Size) -> FloatImage:
    """As `kmax.data.geometry.resize_image`: the rows that each row of the result needs are kept."""
    resize = RowResize(image.size, size)
    result = [rows for strip in image for rows in resize.add(strip)]
    return np.concatenate(result)


def _placed(image: ImageStrips) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
    """Each strip and the rows of the image that it has."""
    start = 0
    for strip in image:
        yield slice(start, start + len(strip)), strip
        start += len(strip)
