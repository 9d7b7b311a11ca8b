"""From the words of an image to network input in one pass, as machine code; imported where it is called."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kmax.compiled import compiled
from kmax.data.augmentation.resampling import Taps
from kmax.data.augmentation.view import MEAN
from kmax.data.geometry import FloatImage

BYTE = np.uint32(255)


@compiled
def _between_columns(
    words: NDArray[np.uint32], columns: Taps, pair: NDArray[np.uint32], result: FloatImage
) -> None:
    """One row of words [w] between its columns: float32 [3, W]; `pair` [2, W] is memory to work in."""
    lower, upper, fraction = columns
    left, right = pair[0], pair[1]
    for x in range(len(lower)):  # apart from the arithmetic, which then runs over several pixels at once
        left[x], right[x] = words[np.uintp(lower[x])], words[np.uintp(upper[x])]
    for channel in range(3):
        row, shift = result[channel], np.uint32(8 * channel)
        for x in range(len(fraction)):
            a = np.float32(np.int32((left[x] >> shift) & BYTE))
            b = np.float32(np.int32((right[x] >> shift) & BYTE))
            row[x] = (b - a) * fraction[x] + a


@compiled
def bilinear_input(words: NDArray[np.uint32], rows: Taps, columns: Taps, planes: FloatImage) -> None:
    """`resampling_loops.bilinear` of words [h, w], normalised, channel by channel.

    Args:
        rows, columns: lower and upper neighbours (the same as the lower or the next), and fractions between.
        planes: float32 [3, H, W] in -1..1; the first rows and columns are written.
    """
    lower, upper, fractions = rows
    width = len(columns[0])
    between, pair = np.empty((2, 3, width), np.float32), np.empty((2, width), np.uint32)
    held = np.full(2, -1, np.intp)
    for y in range(len(lower)):
        for source in (lower[y], upper[y]):
            slot = source & 1
            if held[slot] != source:
                held[slot] = source
                _between_columns(words[source], columns, pair, between[slot])
        fraction = fractions[y]
        for channel in range(3):
            top, bottom = between[lower[y] & 1, channel], between[upper[y] & 1, channel]
            row = planes[channel, y]
            for x in range(width):
                row[x] = ((bottom[x] - top[x]) * fraction + top[x] - MEAN) / MEAN
