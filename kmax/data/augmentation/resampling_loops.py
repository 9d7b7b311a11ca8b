"""The bilinear step over the pixels, as machine code; imported where it is called."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.compiled import compiled
from kmax.data.augmentation.resampling import Taps
from kmax.data.geometry import FloatImage

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
def _needed_rows(
    pixels: NDArray[Any],
    channels: int,
    sources: tuple[int, int],
    columns: Taps,
    held: Any,
    between: FloatImage,
) -> None:
    """Have two rows of `pixels` between their columns: row n in `between[n & 1]` and noted in `held`."""
    lower, upper, fraction = columns
    for source in sources:
        slot = source & 1
        if held[slot] != source:
            held[slot] = source
            if channels == 4:  # a constant, for which a loop of its own is made
                _between_columns(pixels[source], lower, upper, fraction, 4, between[slot])
            else:
                _between_columns(pixels[source], lower, upper, fraction, 3, between[slot])


@compiled
def _between_rows(top: FloatImage, bottom: FloatImage, fraction: np.float32, result: NDArray[Any]) -> None:
    for place in range(len(result)):
        result[place] = (bottom[place] - top[place]) * fraction + top[place]


@compiled
def bilinear(pixels: NDArray[Any], channels: int, rows: Taps, columns: Taps, result: NDArray[Any]) -> None:
    """Entry (y, x) lies between two rows and two columns of `pixels`: first along x, then along y.

    Args:
        pixels: uint8 or float32 [h, w x channels], of 3 or 4 channels.
        rows, columns: lower and upper neighbours (the same as the lower or the next), and fractions between.
        result: uint8 (of truncated values) or float32 [H, W x 4]; written.
    """
    lower, upper, fraction = rows
    held, between = np.full(2, -1, np.intp), np.empty((2, 4 * len(columns[0])), np.float32)
    for y in range(len(lower)):
        _needed_rows(pixels, channels, (lower[y], upper[y]), columns, held, between)
        _between_rows(between[lower[y] & 1], between[upper[y] & 1], fraction[y], result[y])


@compiled
def bilinear_twice(
    pixels: NDArray[Any],
    channels: int,
    rows: tuple[Taps, Taps],
    columns: tuple[Taps, Taps],
    result: NDArray[Any],
) -> None:
    """`bilinear` of what `bilinear` gives, of which no more than a row is kept that stays in the cache."""
    lower, upper, fraction = rows[0]
    lower_2, upper_2, fraction_2 = rows[1]
    width, width_2 = len(columns[0][0]), len(columns[1][0])
    held, between = np.full(2, -1, np.intp), np.empty((2, 4 * width), np.float32)
    held_2, between_2 = np.full(2, -1, np.intp), np.empty((2, 4 * width_2), np.float32)
    row = np.empty(4 * width, np.float32)
    for y in range(len(lower_2)):
        for source in (lower_2[y], upper_2[y]):
            slot = source & 1
            if held_2[slot] != source:
                held_2[slot] = source
                _needed_rows(pixels, channels, (lower[source], upper[source]), columns[0], held, between)
                top, bottom = between[lower[source] & 1], between[upper[source] & 1]
                _between_rows(top, bottom, fraction[source], row)
                _between_columns(row, columns[1][0], columns[1][1], columns[1][2], 4, between_2[slot])
        _between_rows(between_2[lower_2[y] & 1], between_2[upper_2[y] & 1], fraction_2[y], result[y])
