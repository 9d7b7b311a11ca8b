"""Compiled loops that count the pairs of ids of two maps; imported lazily, where they are called.

The key of a pair is truth << 24 | predicted. Keys are counted in a hash table with linear probing, which
the caller allocates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kmax.compiled import compiled
from kmax.data.formats.png_loops import pixel_at, repeated, undo_filter

EMPTY = -1  # key of a free slot


@compiled
def _add(key: np.int64, pixels: int, keys: NDArray[np.int64], counts: NDArray[np.int64]) -> int:
    """Add the pixels of a run, if any; 1 if the key is new."""
    if not pixels:
        return 0
    mask = len(keys) - 1
    slot = ((key * 0x9E3779B1) >> 20) & mask
    while keys[slot] != key and keys[slot] != EMPTY:
        slot = (slot + 1) & mask
    new = 1 if keys[slot] == EMPTY else 0
    keys[slot] = key
    counts[slot] += pixels
    return new


@compiled
def _count_pixels(
    truth: NDArray[np.uint8],
    predicted: NDArray[np.uint8],
    truth_words: NDArray[np.uint64],
    predicted_words: NDArray[np.uint64],
    num_pixels: int,
    run: NDArray[np.int64],
    keys: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> bool:
    """Continue counting over `num_pixels` more; `run` holds ids and pixels of the run, and the keys in use.

    Since regions are large, eight pixels at a time are compared with the last one first.
    """
    t, p, start, used = np.uint64(run[0]), np.uint64(run[1]), -run[2], run[3]
    t0, t1, t2 = repeated(t, 3)
    p0, p1, p2 = repeated(p, 3)
    groups = num_pixels // 8
    for group in range(groups + 1):
        end = 8 * group + 8
        if group < groups:
            different = (truth_words[3 * group] ^ t0) | (predicted_words[3 * group] ^ p0)
            different |= (truth_words[3 * group + 1] ^ t1) | (predicted_words[3 * group + 1] ^ p1)
            different |= (truth_words[3 * group + 2] ^ t2) | (predicted_words[3 * group + 2] ^ p2)
            if different == 0:
                continue
        else:
            end = num_pixels
        for pixel in range(8 * group, end):
            new_t, new_p = pixel_at(truth, 3 * pixel, 3), pixel_at(predicted, 3 * pixel, 3)
            if new_t != t or new_p != p:
                used += _add(np.int64(t) << 24 | np.int64(p), pixel - start, keys, counts)
                if 2 * used > len(keys):
                    return False
                t, p, start = new_t, new_p, pixel
        t0, t1, t2 = repeated(t, 3)
        p0, p1, p2 = repeated(p, 3)
    run[0], run[1], run[2], run[3] = t, p, num_pixels - start, used
    return True


@compiled
def count_colours(
    truth: NDArray[np.uint8],
    predicted: NDArray[np.uint8],
    truth_words: NDArray[np.uint64],
    predicted_words: NDArray[np.uint64],
    keys: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> bool:
    """Count the pairs of two maps of ids R + 256 G + 65536 B.

    Args:
        truth, predicted: [3 pixels].
        truth_words, predicted_words: the same bytes as words, up to the last full group of three words.
        keys: [a power of two], filled with EMPTY; the keys are written here.
        counts: of the same length, filled with 0; the pixels of each key are written here.

    Returns:
        Whether the table was large enough.
    """
    run = np.zeros(4, np.int64)
    fits = _count_pixels(truth, predicted, truth_words, predicted_words, len(truth) // 3, run, keys, counts)
    _add(run[0] << 24 | run[1], run[2], keys, counts)
    return fits


@compiled
def count_colour_lines(
    truth: NDArray[np.uint8],
    predicted: NDArray[np.uint8],
    keys: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> bool:
    """`count_colours` of two filtered PNGs [H, 1 + 3 W], line by line, so that lines stay in the cache."""
    size = truth.shape[1] - 1
    words = np.zeros((4, size // 8 + 1), np.uint64)  # this line and that above, of both maps
    lines = words.view(np.uint8)
    run = np.zeros(4, np.int64)
    for y in range(len(truth)):
        t, above = y & 1, 1 - (y & 1)
        p = 2 + t
        undo_filter(truth[y], lines[t], words[t], lines[above], words[above], 3)
        undo_filter(predicted[y], lines[p], words[p], lines[2 + above], words[2 + above], 3)
        if not _count_pixels(lines[t], lines[p], words[t], words[p], size // 3, run, keys, counts):
            return False
    _add(run[0] << 24 | run[1], run[2], keys, counts)
    return True


@compiled
def count_ids(
    truth: NDArray[np.uint32],
    predicted: NDArray[np.uint32],
    keys: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> bool:
    """Count the pairs of two maps of ids [pixels], of at least one pixel; otherwise as `count_colours`."""
    used, start = 0, 0
    t, p = truth[0], predicted[0]
    for pixel in range(len(truth)):
        if truth[pixel] != t or predicted[pixel] != p:
            used += _add(np.int64(t) << 24 | np.int64(p), pixel - start, keys, counts)
            if 2 * used > len(keys):
                return False
            t, p, start = truth[pixel], predicted[pixel], pixel
    _add(np.int64(t) << 24 | np.int64(p), len(truth) - start, keys, counts)
    return True
