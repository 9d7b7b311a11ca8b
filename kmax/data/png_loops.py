"""Undoing the filters of a panoptic PNG, as machine code; imported where it is called.

Regions are flat: nearly every filtered pixel is 0, and then is the one to its left or the one above.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kmax.compiled import compiled

SUB, UP, AVERAGE, PAETH = 1, 2, 3, 4
LOW, HIGH = np.int32(0x7F7F7F), np.int32(0x808080)  # bits of the three bytes of a pixel


@compiled
def _added(a: np.int32, b: np.int32) -> np.int32:
    """Three bytes each plus three bytes, modulo 256."""
    return np.int32(((a & LOW) + (b & LOW)) ^ ((a ^ b) & HIGH))


@compiled
def _average(left: np.int32, above: np.int32) -> np.int32:
    """The mean of each of three bytes, rounded down."""
    return np.int32((left & above) + (((left ^ above) >> 1) & LOW))


@compiled
def _paeth(left: np.int32, above: np.int32, before: np.int32) -> np.int32:
    """Of each of three bytes the one of left, above and before (above left) next to left + above - before."""
    if above == before:
        return left
    if left == before:
        return above
    result = np.int32(0)
    for shift in (0, 8, 16):
        a, b, c = (left >> shift) & 255, (above >> shift) & 255, (before >> shift) & 255
        of_a, of_b, of_c = abs(b - c), abs(a - c), abs(a + b - 2 * c)
        nearest = a if of_a <= of_b and of_a <= of_c else b if of_b <= of_c else c
        result |= np.int32(nearest << shift)
    return result


@compiled
def unfilter_ids(lines: NDArray[np.uint8], ids: NDArray[np.int32]) -> bool:
    """Undo the filters of 8-bit RGB lines.

    Args:
        lines: [H, 1 + 3 W], the number of a filter and filtered bytes.
        ids: [H, W], R + 256 G + 65536 B; written.

    Returns:
        Whether all filters are known.
    """
    height, width = ids.shape
    top = np.zeros(width, np.int32)
    for y in range(height):
        kind, line, row = lines[y, 0], lines[y, 1:], ids[y]
        if kind > PAETH:
            return False
        for x in range(width):
            place = np.uintp(x) * np.uintp(3)
            row[x] = (
                np.int32(line[place])
                | np.int32(line[place + np.uintp(1)]) << 8
                | np.int32(line[place + np.uintp(2)]) << 16
            )
        left, before = np.int32(0), np.int32(0)
        if kind == SUB:
            for x in range(width):
                left = _added(left, row[x])
                row[x] = left
        elif kind == UP:
            for x in range(width):
                row[x] = _added(row[x], top[x])
        elif kind == AVERAGE:
            for x in range(width):
                left = _added(row[x], _average(left, top[x]))
                row[x] = left
        elif kind == PAETH:
            for x in range(width):
                above = top[x]
                left = _added(row[x], _paeth(left, above, before))
                row[x], before = left, above
        top = row
    return True
