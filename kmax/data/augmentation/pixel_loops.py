"""Passes over the pixels of images and label maps as machine code; imported where it is called.

Pixels of images are bytes or float32 [H, W x channels], or words of four bytes [H, W]: red, green, blue, and
one without meaning. The order of float32 operations is that of the originals, on which the last bit depends.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.compiled import compiled
from kmax.data.batch import INPUT_MEAN
from kmax.data.geometry import FloatImage, Taps
from kmax.data.image_source import NOT_PASTED, PADDING_OWNER

ONE, TWO, THREE, FOUR = (np.uintp(number) for number in (1, 2, 3, 4))  # places that cannot be negative
BYTE = np.uint32(255)
SHARE, CENTRE = np.float32(1) / np.float32(13), np.float32(5) / np.float32(13)
ZERO, MOST = np.float32(0), np.float32(255)


# ------------------------------------------------------------------------------------------------- resampling


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
    """Interpolate two rows of `pixels` along x: row n into `between[n & 1]`, noted in `held`."""
    lower, upper, fraction = columns
    for source in sources:
        slot = source & 1
        if held[slot] != source:
            held[slot] = source
            if channels == 4:  # a constant, for which a separate loop is compiled
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
    """`bilinear` of the result of `bilinear`, of which only the needed rows are kept, in the cache."""
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


# ---------------------------------------------------------------------------------------------- network input


@compiled
def _words_between_columns(
    words: NDArray[np.uint32], columns: Taps, pair: NDArray[np.uint32], result: FloatImage
) -> None:
    """One row of words [w] between its columns: float32 [3, W]; `pair` [2, W] is a buffer."""
    lower, upper, fraction = columns
    left, right = pair[0], pair[1]
    for x in range(len(lower)):  # apart from the arithmetic, which is then vectorised
        left[x], right[x] = words[np.uintp(lower[x])], words[np.uintp(upper[x])]
    for channel in range(3):
        row, shift = result[channel], np.uint32(8 * channel)
        for x in range(len(fraction)):
            a = np.float32(np.int32((left[x] >> shift) & BYTE))
            b = np.float32(np.int32((right[x] >> shift) & BYTE))
            row[x] = (b - a) * fraction[x] + a


@compiled
def bilinear_input(words: NDArray[np.uint32], rows: Taps, columns: Taps, planes: FloatImage) -> None:
    """`bilinear` of words [h, w], normalised, channel by channel.

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
                _words_between_columns(words[source], columns, pair, between[slot])
        fraction = fractions[y]
        for channel in range(3):
            top, bottom = between[lower[y] & 1, channel], between[upper[y] & 1, channel]
            row = planes[channel, y]
            for x in range(width):
                row[x] = ((bottom[x] - top[x]) * fraction + top[x] - INPUT_MEAN) / INPUT_MEAN


@compiled
def normalize_words(words: NDArray[np.uint32], planes: FloatImage) -> None:
    """Write words [H, W] as network input [3, H, W] in -1..1."""
    for y in range(words.shape[0]):
        row = words[y]
        for channel in range(3):
            plane, shift = planes[channel, y], np.uint32(8 * channel)
            for x in range(len(row)):
                level = np.int32((row[x] >> shift) & np.uint32(255))
                plane[x] = (np.float32(level) - INPUT_MEAN) / INPUT_MEAN


@compiled
def blank_padding(owner: NDArray[np.int32], planes: FloatImage) -> None:
    """Write 0 into network input [3, H, W] where the owner [H, W] is padding."""
    for y in range(owner.shape[0]):
        row = owner[y]
        for channel in range(3):
            plane = planes[channel, y]
            for x in range(len(row)):
                plane[x] = np.float32(0) if row[x] == PADDING_OWNER else plane[x]


# ---------------------------------------------------------------------------------------------------- regions


@compiled
def paste_words(
    words: NDArray[np.uint32],
    owner: NDArray[np.int32],
    pasted: NDArray[np.uint32],
    pasted_owner: NDArray[np.int32],
    new_owner: NDArray[np.int32],
    box: tuple[int, int, int, int],
) -> None:
    """Paste pixels over words [H, W] and their owners.

    Args:
        words, owner: [H, W]; changed.
        pasted, pasted_owner: [H, W], pasted over them.
        new_owner: by an owner of `pasted` plus 1, its owner in the result, or `NOT_PASTED`.
        box: first row, row after the last, first column, column after the last of the pasted region.
    """
    top, bottom, left, right = box
    for y in range(top, bottom):
        row, of_row = words[y, left:right], owner[y, left:right]
        new, of_new = pasted[y, left:right], pasted_owner[y, left:right]
        for x in range(len(row)):
            found = new_owner[np.uintp(of_new[x] + 1)]
            covers = found != NOT_PASTED
            row[x] = new[x] if covers else row[x]
            of_row[x] = found if covers else of_row[x]


@compiled
def count_owners(owner: NDArray[Any], counts: NDArray[np.int64]) -> None:
    """Add the pixels of each owner [H, W] to `counts`, whose first value is that of owner -1."""
    for y in range(owner.shape[0]):
        row = owner[y]
        last, start = row[0], 0
        for x in range(len(row)):
            if row[x] != last:
                counts[np.int64(last) + 1] += x - start
                last, start = row[x], x
        counts[np.int64(last) + 1] += len(row) - start


# ---------------------------------------------------------------------------------------------------- colours


@compiled
def _weighted(row: NDArray[np.uint8], share: FloatImage, centre: FloatImage) -> None:
    for place in range(len(row)):
        level = np.float32(row[place])
        share[place], centre[place] = level * SHARE, level * CENTRE


@compiled
def sharpen(image: NDArray[np.uint8], channels: int, factor: np.float32, result: NDArray[np.uint8]) -> None:
    """Away from (factor above 1) or towards a mean of 3 x 3 pixels, whose centre has five times the weight.

    Args:
        image: [H, W x channels], of at least three rows and columns.
        factor: neither 0 nor 1.
        result: as `image`; written, but for the outermost pixels.
    """
    height, width = image.shape
    share, centre = np.empty((3, width), np.float32), np.empty((3, width), np.float32)
    for y in range(2):
        _weighted(image[y], share[y], centre[y])
    count = width - 2 * channels
    for y in range(1, height - 1):
        _weighted(image[y + 1], share[(y + 1) % 3], centre[(y + 1) % 3])
        above, here, below = share[(y - 1) % 3], share[y % 3], share[(y + 1) % 3]
        middle = centre[y % 3, channels:]
        above_1, above_2 = above[channels:], above[2 * channels :]
        here_2, below_1, below_2 = here[2 * channels :], below[channels:], below[2 * channels :]
        row, out = image[y, channels:], result[y, channels:]
        for x in range(count):
            mean = ZERO + above[x] + above_1[x] + above_2[x] + here[x] + middle[x] + here_2[x]
            mean = min(mean + below[x] + below_1[x] + below_2[x], MOST)
            start = np.float32(np.int32(mean))
            mixed = (np.float32(row[x]) - start) * factor + start
            out[x] = np.uint8(np.int32(min(max(mixed, ZERO), MOST)))
