"""From the filtered lines of a label PNG to ids and owners, as machine code; imported where it is called.

Filters are undone line by line, so that counting needs no array of all pixels. The filtered lines of a label
map are nearly all 0: 24 bytes are compared at a time, as three words, and where all are 0 the pixels follow
from the last one or those above.

Source: the PNG specification, section 9 (filtering).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.compiled import compiled

NONE, SUB, UP, AVERAGE, PAETH = 0, 1, 2, 3, 4
GROUP = 24  # bytes of three words: whole pixels of 1, 2 or 3 bytes


@compiled
def repeated(pixel: np.uint64, bytes_per_pixel: int) -> tuple[np.uint64, np.uint64, np.uint64]:
    """The three words of a group of equal pixels of 1, 2 or 3 bytes."""
    one = np.uint64(pixel)
    if bytes_per_pixel < 3:
        if bytes_per_pixel == 1:
            one |= one << np.uint64(8)
        one |= one << np.uint64(16)
        one |= one << np.uint64(32)
        return one, one, one
    two = one | one << np.uint64(24)
    return (
        two | one << np.uint64(48),
        one >> np.uint64(16) | two << np.uint64(8) | one << np.uint64(56),
        one >> np.uint64(8) | two << np.uint64(16),
    )


@compiled
def pixel_at(line: NDArray[np.uint8], place: int, bytes_per_pixel: int) -> np.uint64:
    """The bytes of the pixel that starts at a place, the first byte lowest."""
    value = np.uint64(line[place])
    for k in range(1, bytes_per_pixel):
        value |= np.uint64(line[place + k]) << np.uint64(8 * k)
    return value


@compiled
def _paeth(left: np.int64, above: np.int64, corner: np.int64) -> np.int64:
    to_left, to_above, to_corner = abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)
    if to_left <= to_above and to_left <= to_corner:
        return left
    return above if to_above <= to_corner else corner


@compiled
def _undo_bytes(
    kind: int, line: NDArray[np.uint8], above: NDArray[np.uint8], start: int, end: int, bytes_per_pixel: int
) -> None:
    for i in range(start, end):
        left = np.int64(line[i - bytes_per_pixel]) if i >= bytes_per_pixel else np.int64(0)
        if kind == SUB:
            predicted = left
        elif kind == AVERAGE:
            predicted = (left + np.int64(above[i])) >> 1
        else:
            corner = np.int64(above[i - bytes_per_pixel]) if i >= bytes_per_pixel else np.int64(0)
            predicted = _paeth(left, np.int64(above[i]), corner)
        line[i] = np.uint8((np.int64(line[i]) + predicted) & 0xFF)


@compiled
def undo_filter(
    filtered: NDArray[np.uint8],
    line: NDArray[np.uint8],
    words: NDArray[np.uint64],
    above: NDArray[np.uint8],
    above_words: NDArray[np.uint64],
    bytes_per_pixel: int,
) -> None:
    """The pixels of a line.

    Args:
        filtered: the filter, 0..4, and the filtered bytes.
        line: takes the pixels; of at least as many bytes.
        above: the previous line; zeros for the first.
        words, above_words: the same bytes, as words.
        bytes_per_pixel: 1, 2 or 3.
    """
    kind, source, size = filtered[0], filtered[1:], len(filtered) - 1
    if kind == UP:
        for i in range(size):
            line[i] = source[i] + above[i]
        return
    for i in range(size):  # numba's assignment of slices is far slower
        line[i] = source[i]
    if kind == NONE:
        return
    groups = size // GROUP if kind != AVERAGE else 0
    for group in range(groups):
        start, word = GROUP * group, 3 * group
        if start and words[word] | words[word + 1] | words[word + 2] == 0:
            left = pixel_at(line, start - bytes_per_pixel, bytes_per_pixel)
            corner = pixel_at(above, start - bytes_per_pixel, bytes_per_pixel)
            if kind == PAETH and left == corner:  # Paeth then predicts the pixel above, all along the group
                for k in range(word, word + 3):
                    words[k] = above_words[k]
                continue
            a, b, c = repeated(corner, bytes_per_pixel)
            level = above_words[word] == a and above_words[word + 1] == b and above_words[word + 2] == c
            if kind == SUB or level:  # along a run above Paeth predicts the pixel to the left
                words[word], words[word + 1], words[word + 2] = repeated(left, bytes_per_pixel)
                continue
        _undo_bytes(kind, line, above, start, start + GROUP, bytes_per_pixel)
    _undo_bytes(kind, line, above, GROUP * groups, size, bytes_per_pixel)


@compiled
def unfilter(
    lines: NDArray[np.uint8], above: NDArray[np.uint8], bytes_per_pixel: int, raw: NDArray[np.uint8]
) -> None:
    """The stored bytes of successive lines of a PNG of any kind.

    Args:
        lines: [R, 1 + bytes of a line], filter and filtered bytes.
        above: the bytes of the line before the first.
        bytes_per_pixel: 1 to 8; 1 where pixels are smaller.
        raw: [R, bytes of a line], filled here.
    """
    for y in range(len(lines)):
        kind, line = lines[y, 0], raw[y]
        for i in range(len(line)):
            line[i] = lines[y, 1 + i]
        if kind == UP:
            for i in range(len(line)):
                line[i] += above[i]
        elif kind != NONE:
            _undo_bytes(kind, line, above, 0, len(line), bytes_per_pixel)
        above = line


@compiled
def grey_pixels(lines: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> None:
    """All pixels of an 8-bit or 16-bit grey PNG.

    Args:
        lines: [H, 1 + bytes of a line], filter and filtered bytes.
        pixels: uint8 or uint16 [H, W], filled here.
    """
    size = lines.shape[1] - 1
    words = np.zeros((2, size // 8 + 1), np.uint64)  # this line and that above
    as_bytes, as_pixels = words.view(np.uint8), words.view(pixels.dtype)
    for y in range(len(lines)):
        now, above = y & 1, 1 - (y & 1)
        undo_filter(lines[y], as_bytes[now], words[now], as_bytes[above], words[above], pixels.itemsize)
        line, found = pixels[y], as_pixels[now]
        for x in range(len(line)):
            # The bytes of a larger pixel come the highest first.
            line[x] = found[x] if pixels.itemsize == 1 else found[x] << 8 | found[x] >> 8


@compiled
def colour_ids(lines: NDArray[np.uint8], ids: NDArray[np.int32]) -> None:
    """The ids R + 256 G + 65536 B of all pixels of an 8-bit RGB PNG.

    Args:
        lines: [H, 1 + 3 W], filter and filtered bytes.
        ids: [H, W], filled here.
    """
    size = lines.shape[1] - 1
    words = np.zeros((2, size // 8 + 1), np.uint64)  # this line and that above
    as_bytes = words.view(np.uint8)
    for y in range(len(lines)):
        now, above = y & 1, 1 - (y & 1)
        undo_filter(lines[y], as_bytes[now], words[now], as_bytes[above], words[above], 3)
        line, found = ids[y], as_bytes[now]
        for x in range(len(line)):
            place = np.uintp(x) * np.uintp(3)
            line[x] = (
                np.int32(found[place])
                | np.int32(found[place + np.uintp(1)]) << 8
                | np.int32(found[place + np.uintp(2)]) << 16
            )


@compiled
def look_up(
    ids: NDArray[np.int32], listed: NDArray[np.int32], owners: NDArray[Any], result: NDArray[Any]
) -> int:
    """The owner of each pixel. Regions are flat: a pixel nearly always has the id of the one before it.

    Args:
        ids: int32 [H, W].
        listed: the ids that have an owner, int32 [N], ascending.
        owners: their owners [N].
        result: [H, W], of the type of `owners`; written.

    Returns:
        The first id that is not listed; -1 if all are listed.
    """
    last, owner = np.int32(-1), owners[0]
    for y in range(ids.shape[0]):
        row, result_row = ids[y], result[y]
        for x in range(len(row)):
            found = row[x]
            if found != last:
                place = np.searchsorted(listed, found)
                if place == len(listed) or listed[place] != found:
                    return int(found)
                last, owner = found, owners[place]
            result_row[x] = owner
    return -1
