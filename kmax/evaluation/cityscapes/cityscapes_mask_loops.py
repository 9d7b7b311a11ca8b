"""Compiled loops over the pixels of masks and of the ground truth below them; imported on first use."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.compiled import compiled
from kmax.data.formats.png_loops import SUB, repeated, undo_filter


@compiled
def count_values(values: NDArray[Any], words: NDArray[np.uint64], counts: NDArray[np.int64]) -> None:
    """Add the number of occurrences of each value to `counts`; runs of equal values are skipped by words.

    Args:
        values: uint8 or uint16, at least one.
        words: the same bytes as uint64, without an incomplete last word.
        counts: int64 [> largest value].
    """
    start, value = 0, values[0]
    same = repeated(np.uint64(value), values.itemsize)[0]
    each = 8 // values.itemsize
    for word in range(len(words) + 1):
        end = each * word + each
        if word == len(words):
            end = len(values)
        elif words[word] == same:
            continue
        for place in range(each * word, end):
            if values[place] != value:
                counts[value] += place - start
                start, value = place, values[place]
        same = repeated(np.uint64(value), values.itemsize)[0]
    counts[value] += len(values) - start


@compiled
def _all_zero(data: NDArray[np.uint8], words: NDArray[np.uint64], start: int, end: int) -> bool:
    """Whether bytes start..end are 0; `words` are the same bytes as uint64, without a part of a word."""
    first, last = (start + 7) // 8, end // 8
    found = np.uint64(0)
    for k in range(start, min(8 * first, end)):
        found |= np.uint64(data[k])
    for word in words[first : max(first, last)]:
        found |= word
    for k in range(max(8 * last, start), end):
        found |= np.uint64(data[k])
    return bool(found == 0)


@compiled
def _count_line(
    line: NDArray[np.uint8], words: NDArray[np.uint64], truth: NDArray[Any], counts: NDArray[np.int64]
) -> None:
    value, run = truth[0], 0
    for word in range(len(words)):
        if words[word] != 0:
            for x in range(8 * word, 8 * word + 8):
                if line[x] != 0:
                    if truth[x] != value:
                        counts[value] += run
                        value, run = truth[x], 0
                    run += 1
    counts[value] += run


@compiled
def count_below_lines(
    data: NDArray[np.uint8],
    data_words: NDArray[np.uint64],
    truth: NDArray[Any],
    counts: NDArray[np.int64],
) -> None:
    """Add the ground truth values below the non-zero pixels of a mask to `counts`.

    A mask is mostly black: its lines are scanned word by word, and only those with a pixel are unfiltered.

    Args:
        data: [H x (1 + W)], filter and filtered bytes of each line of an 8-bit grey PNG.
        data_words: the same bytes as uint64, without an incomplete last word.
        truth: uint8 or uint16 [H, W].
        counts: int64 [> largest value].
    """
    height, width = truth.shape
    words = np.zeros((2, width // 8 + 1), np.uint64)  # this line and that above
    lines = words.view(np.uint8)
    black_above = True
    for y in range(height):
        start, now, above = y * (width + 1), y & 1, 1 - (y & 1)
        end = start + 1 + width
        if (black_above or data[start] <= SUB) and _all_zero(data, data_words, start + 1, end):
            black_above = True
            continue
        if black_above:
            words[above] = 0
        undo_filter(data[start:end], lines[now], words[now], lines[above], words[above], 1)
        _count_line(lines[now], words[now], truth[y], counts)
        black_above = False
