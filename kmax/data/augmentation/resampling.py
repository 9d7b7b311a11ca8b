"""Resampling of the two originals, to the pixel, of no more than the part of the result that is wanted.

deeplab2 resamples twice (to the size that fits, then by the random scale), corners on corners, between the
nearest two pixels even where the image shrinks; what is between the steps stays float32. bytedance resamples
once, with Pillow: centres on centres, smoothed where the image shrinks, rounded to bytes.

The order of float32 operations is the original's: along x, then along y, each as a + (b - a) * fraction.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from kmax.data.geometry import FloatImage, Size, nearest, positions
from kmax.data.pictures import as_array, as_picture

Window = tuple[slice, slice]
BAND = 48  # rows computed at a time: what lies between the steps stays in the processor's cache


def whole(size: Size) -> Window:
    """The window of all rows and columns."""
    return slice(0, size[0]), slice(0, size[1])


def interpolate(
    image: NDArray[Any],
    sizes: Sequence[Size],
    window: Window,
    kind: type[np.uint8] | type[np.float32] = np.float32,
) -> NDArray[Any]:
    """Resize bilinearly to each of `sizes` in turn, as deeplab2 does.

    Args:
        image: uint8 or float32 [h, w, 3 or 4].
        window: rows and columns of the last size; nothing else is computed.
        kind: np.float32, or np.uint8 for values truncated at the end.

    Returns:
        `kind` [rows, columns, 4]; the last channel means nothing and makes a pixel of float32 16 bytes,
        which move as one.
    """
    from kmax.data.augmentation.resampling_loops import bilinear  # here: numba takes half a second to import

    steps = [(a, b) for a, b in zip([image.shape[:2], *sizes[:-1]], sizes, strict=True) if a != b]
    row_steps, column_steps = ([(a[axis], b[axis]) for a, b in steps] for axis in (0, 1))
    along, columns = _plan(row_steps, window[0]), _plan(column_steps, window[1])
    rows, width = window[0], window[1].stop - window[1].start
    result = np.zeros((rows.stop - rows.start, width, 4), kind)
    height = max(1, BAND * sizes[-1][0] // max(sizes[-1][0], image.shape[0]))
    for start in range(rows.start, rows.stop, height):
        stop = min(start + height, rows.stop)
        source, taps = along.part(slice(start - rows.start, stop - rows.start))
        pixels, part = image[source, columns.source], result[start - rows.start : stop - rows.start]
        if not taps:
            part[..., : image.shape[2]] = pixels
        for step, (y, x) in enumerate(zip(taps, columns.taps, strict=True), 1):
            resized = part if step == len(taps) else np.empty((len(y.lower), len(x.lower), 4), np.float32)
            flat, flat_result = (np.ascontiguousarray(a).reshape(len(a), -1) for a in (pixels, resized))
            between = np.empty((2, flat_result.shape[1]), np.float32)
            bilinear(flat, pixels.shape[2], y.arrays, x.arrays, between, flat_result)
            pixels = resized
    return result


def interpolate_input(words: NDArray[np.uint32], size: Size, out: FloatImage) -> None:
    """`interpolate` words [h, w] to `size`, and write them at the top left of network input [3, H, W]."""
    if words.shape == size:
        from kmax.data.augmentation.pixel_loops import normalize_words

        normalize_words(words, out)
        return
    from kmax.data.augmentation.input_loops import bilinear_input

    rows, columns = (_taps(*lengths) for lengths in zip(words.shape, size, strict=True))
    bilinear_input(words, rows.arrays, columns.arrays, out)


def resize_with_pillow(image: NDArray[np.uint8], size: Size, window: Window) -> NDArray[np.uint8]:
    """Resize uint8 [h, w, C] with C 3 or 4 bilinearly, as bytedance does; only `window` of the result."""
    (height, width), bilinear = size, PillowImage.Resampling.BILINEAR
    return as_array(as_picture(image).resize((width, height), bilinear))[window]


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
    rows, columns = (_nearest_centre(*lengths) for lengths in zip(labels.shape, size, strict=True))
    return labels.take(rows[window[0]], axis=0).take(columns[window[1]], axis=1)


@functools.lru_cache(maxsize=4096)
def _nearest_centre(n_in: int, n_out: int) -> NDArray[np.intp]:
    """Positions are summed up, not multiplied, which decides where one falls between two pixels."""
    step = n_in / n_out
    position = np.full(n_out, step)
    position[0] = step * 0.5
    return np.add.accumulate(position).astype(np.intp)


# ------------------------------------------------------------------------------------------------- the plan


@dataclass(frozen=True)
class _Taps:
    """Entry i of a result lies between entries `lower[i]` and `upper[i]` of what it is made from."""

    lower: NDArray[np.intp]
    upper: NDArray[np.intp]
    fraction: FloatImage

    @property
    def arrays(self) -> tuple[NDArray[np.intp], NDArray[np.intp], FloatImage]:
        """As compiled loops take them."""
        return self.lower, self.upper, self.fraction


@dataclass(frozen=True)
class _Plan:
    """Along one axis: the entries of the source that are needed, and the steps from them to the window."""

    source: slice
    taps: list[_Taps]

    def part(self, window: slice) -> tuple[slice, list[_Taps]]:
        """The plan for a part of the window alone: what it needs of the source, and the steps."""
        taps: list[_Taps] = []
        for full in reversed(self.taps):
            lower, upper = full.lower[window], full.upper[window]
            first, last = int(lower[0]), int(upper[-1])  # positions grow
            taps.insert(0, _Taps(lower - first, upper - first, full.fraction[window]))
            window = slice(first, last + 1)
        return slice(self.source.start + window.start, self.source.start + window.stop), taps


@functools.lru_cache(maxsize=4096)
def _taps(n_in: int, n_out: int) -> _Taps:
    position = positions(n_in, n_out)
    lower = np.floor(position)
    index = lower.astype(np.intp)
    return _Taps(index, np.minimum(index + 1, n_in - 1), position - lower)


def _plan(steps: list[tuple[int, int]], window: slice) -> _Plan:
    """From the window backwards, keep what is needed of each step."""
    taps: list[_Taps] = []
    needed = np.arange(window.start, window.stop)
    for n_in, n_out in reversed(steps):
        full = _taps(n_in, n_out)
        lower, upper = full.lower[needed], full.upper[needed]
        used = np.zeros(n_in, bool)
        used[lower] = used[upper] = True
        place = np.cumsum(used) - 1
        taps.insert(0, _Taps(place[lower], place[upper], full.fraction[needed]))
        needed = np.flatnonzero(used)
    first, last = int(needed[0]), int(needed[-1])
    if taps and last - first + 1 > len(needed):  # the source is cut, not picked from
        taps[0] = _Taps(needed[taps[0].lower] - first, needed[taps[0].upper] - first, taps[0].fraction)
    return _Plan(slice(first, last + 1), taps)
