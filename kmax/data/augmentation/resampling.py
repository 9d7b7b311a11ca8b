"""Resampling of the two originals, to the pixel; only the requested window of the result is computed.

deeplab2 resamples twice (to the size that fits, then by the random scale), corners on corners, between the
nearest two pixels even when downscaling; intermediate results stay float32. bytedance resamples
once, with Pillow: centres on centres, antialiased when downscaling, rounded to bytes.

The order of float32 operations is the original's: along x, then along y, each as a + (b - a) * fraction.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from kmax.data.formats.image_arrays import as_array, as_pillow
from kmax.data.geometry import FloatImage, Size, Taps, nearest, positions

Window = tuple[slice, slice]


def whole(size: Size) -> Window:
    """The window of all rows and columns."""
    return slice(0, size[0]), slice(0, size[1])


def interpolate(
    image: NDArray[Any],
    sizes: Sequence[Size],
    window: Window,
    dtype: type[np.uint8] | type[np.float32] = np.float32,
) -> NDArray[Any]:
    """Resize bilinearly to each of `sizes` (one or two) in turn, as deeplab2 does.

    Args:
        image: uint8 or float32 [h, w, 3 or 4].
        window: rows and columns of the last size; nothing else is computed.
        dtype: np.float32, or np.uint8 for values truncated at the end.

    Returns:
        `dtype` [rows, columns, 4]; the last channel is unused and makes a float32 pixel 16 bytes,
        which are moved together.
    """
    from kmax.data.augmentation.pixel_loops import bilinear, bilinear_twice  # here: numba loads slowly

    steps = [(a, b) for a, b in zip([image.shape[:2], *sizes[:-1]], sizes, strict=True) if a != b]
    source_rows, rows = _backwards([(a[0], b[0]) for a, b in steps], window[0])
    source_columns, columns = _backwards([(a[1], b[1]) for a, b in steps], window[1])
    pixels = image[source_rows, source_columns]
    if not steps:
        return np.pad(pixels, ((0, 0), (0, 0), (0, 4 - image.shape[2]))).astype(dtype)
    result = np.empty((len(rows[-1][0]), len(columns[-1][0]), 4), dtype)
    flat, flat_result = (np.ascontiguousarray(a).reshape(len(a), -1) for a in (pixels, result))
    if len(steps) == 1:
        bilinear(flat, image.shape[2], rows[0], columns[0], flat_result)
    else:
        bilinear_twice(flat, image.shape[2], (rows[0], rows[1]), (columns[0], columns[1]), flat_result)
    return result


def source_rows(n_in: int, n_out: int) -> NDArray[np.intp]:
    """The rows of an image that `interpolate` reads to resize it along y, ascending."""
    lower, upper, _ = _taps(n_in, n_out)
    return np.unique([lower, upper])


def interpolate_rows(
    pixels: NDArray[np.uint8], rows: NDArray[np.intp], original: Size, size: Size
) -> FloatImage:
    """`interpolate` an image of which only some rows are given.

    Args:
        pixels: uint8 [n, w, 3], the rows that `source_rows` names.
        rows: their places in the image.
        original: (h, w) of the image.
        size: (H, W) of the result; another than `original`.

    Returns:
        float32 [H, W, 4], the last channel unused.
    """
    from kmax.data.augmentation.pixel_loops import bilinear  # here: numba loads slowly

    lower, upper, fraction = _taps(original[0], size[0])
    result = np.empty((*size, 4), np.float32)
    taps = np.searchsorted(rows, lower), np.searchsorted(rows, upper), fraction
    bilinear(pixels.reshape(len(rows), -1), 3, taps, _taps(original[1], size[1]), result.reshape(size[0], -1))
    return result


def interpolate_input(words: NDArray[np.uint32], size: Size, out: FloatImage) -> None:
    """`interpolate` words [h, w] to `size`, and write them at the top left of network input [3, H, W]."""
    from kmax.data.augmentation.pixel_loops import bilinear_input, normalize_words

    if words.shape == size:
        normalize_words(words, out)
        return
    rows, columns = (_taps(*lengths) for lengths in zip(words.shape, size, strict=True))
    bilinear_input(words, rows, columns, out)


def resize_with_pillow(image: NDArray[np.uint8], size: Size, window: Window) -> NDArray[np.uint8]:
    """Resize uint8 [h, w, C] with C 3 or 4 bilinearly, as bytedance does; only `window` of the result."""
    (height, width), bilinear = size, PillowImage.Resampling.BILINEAR
    return as_array(as_pillow(image).resize((width, height), bilinear))[window]


def pick_labels(labels: NDArray[Any], sizes: Sequence[Size], window: Window) -> NDArray[Any]:
    """Resize [h, w] by the nearest pixel to each of `sizes` in turn, corners on corners."""
    lengths = [labels.shape, *sizes]
    chosen = []
    for axis in (0, 1):
        index = np.arange(lengths[-1][axis])[window[axis]]
        for before, after in reversed(list(zip(lengths, sizes, strict=False))):
            index = nearest(before[axis], after[axis])[index]
        chosen.append(index)
    return labels.take(chosen[0], axis=0).take(chosen[1], axis=1)


def pick_labels_with_pillow(labels: NDArray[Any], size: Size, window: Window) -> NDArray[Any]:
    """Resize [h, w] by the nearest pixel as Pillow does, centres on centres."""
    rows, columns = (nearest_centres(*lengths) for lengths in zip(labels.shape, size, strict=True))
    return labels.take(rows[window[0]], axis=0).take(columns[window[1]], axis=1)


@functools.lru_cache(maxsize=4096)
def nearest_centres(n_in: int, n_out: int) -> NDArray[np.intp]:
    """For each pixel of a result, the nearest in the source, as Pillow finds it along one axis: [n_out].

    Positions are accumulated, not multiplied: this decides ties between two pixels.
    """
    step = n_in / n_out
    position = np.full(n_out, step)
    position[0] = step * 0.5
    return np.add.accumulate(position).astype(np.intp)


# ------------------------------------------------------------------------------------------------ neighbours


@functools.lru_cache(maxsize=4096)
def _taps(n_in: int, n_out: int) -> Taps:
    """For element i of the result, the two neighbours in the source and the fraction between them."""
    position = positions(n_in, n_out)
    lower = np.floor(position)
    index = lower.astype(np.intp)
    return index, np.minimum(index + 1, n_in - 1), position - lower


def _backwards(steps: list[tuple[int, int]], window: slice) -> tuple[slice, list[Taps]]:
    """The part of the source that a window needs along one axis, and the steps from there to the window."""
    taps: list[Taps] = []
    for lengths in reversed(steps):
        lower, upper, fraction = _taps(*lengths)
        first, last = int(lower[window][0]), int(upper[window][-1])  # positions grow
        taps.insert(0, (lower[window] - first, upper[window] - first, fraction[window]))
        window = slice(first, last + 1)
    return window, taps
