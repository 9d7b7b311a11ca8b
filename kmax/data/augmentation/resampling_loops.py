"""The bilinear step over the pixels, as machine code; imported where it is called."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.compiled import compiled
from kmax.data.geometry import FloatImage

Taps = tuple[NDArray[np.intp], NDArray[np.intp], FloatImage]
ONE, TWO, THREE, FOUR = (np.uintp(number) for number in (1, 2, 3, 4))  # places that cannot be negative


@compiled
def _between_columns(
    pixels: NDArray[Any],
    lower: NDArray[np.intp],
    upper: NDArray[np.intp],
    fraction: FloatImage,
    channels: int,
    result: FloatImage,
) -> None:
    """One row [w x channels] between its columns: float32 [W x 4]."""
    step = np.uintp(channels)
    for x in range(len(lower)):
        left, right, place, part = (
            np.uintp(lower[x]) * step,
            np.uintp(upper[x]) * step,
            np.uintp(x) * FOUR,
            fraction[x],
        )
        a, b, c = np.float32(pixels[left]), np.float32(pixels[left + ONE]), np.float32(pixels[left + TWO])
        d, e, f = np.float32(pixels[right]), np.float32(pixels[right + ONE]), np.float32(pixels[right + TWO])
        g, h = np.float32(0), np.float32(0)
        if step == FOUR:
            g, h = np.float32(pixels[left + THREE]), np.float32(pixels[right + THREE])
        a, b, c, g = (d - a) * part + a, (e - b) * part + b, (f - c) * part + c, (h - g) * part + g
        result[place], result[place + ONE], result[place + TWO], result[place + THREE] = a, b, c, g


@compiled
def bilinear(
    pixels: NDArray[Any], channels: int, rows: Taps, columns: Taps, between: FloatImage, result: NDArray[Any]
) -> None:
    """Entry (y, x) lies between two rows and two columns of `pixels`: first along x, then along y.

    Args:
        pixels: uint8 or float32 [h, w x channels], of 3 or 4 channels.
        rows, columns: lower and upper neighbours (the same as the lower or the next), and fractions between.
        between: memory for two rows, float32 [2, W x 4].
        result: uint8 (of truncated values) or float32 [H, W x 4]; written.
    """
    lower_rows, upper_rows, row_fraction = rows
    lower_columns, upper_columns, column_fraction = columns
    held = np.full(2, -1, np.intp)
    for y in range(len(lower_rows)):
        for source in (lower_rows[y], upper_rows[y]):
            slot = source & 1
            if held[slot] != source:
                held[slot] = source
                if channels == 4:
                    _between_columns(
                        pixels[source], lower_columns, upper_columns, column_fraction, 4, between[slot]
                    )
                else:
                    _between_columns(
                        pixels[source], lower_columns, upper_columns, column_fraction, 3, between[slot]
                    )
        top, bottom = between[lower_rows[y] & 1], between[upper_rows[y] & 1]
        fraction, row = row_fraction[y], result[y]
        for place in range(len(row)):
            row[place] = (bottom[place] - top[place]) * fraction + top[place]
