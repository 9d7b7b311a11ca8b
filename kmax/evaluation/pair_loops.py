"""The pass over the pixels of two maps that counts their pairs of ids; imported where it is called.

A pair's key is truth << 24 | predicted. Keys are told apart in a hash table with linear probing, whose memory
is the caller's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kmax.compiled import compiled

EMPTY = -1


@compiled
def _add(key: np.int64, pixels: int, keys: NDArray[np.int64], counts: NDArray[np.int64]) -> int:
    """Add the pixels of a run, if any; 1 where the key is new."""
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
def _id(values: NDArray[np.uint8], place: int) -> np.int64:
    return np.int64(values[place]) | np.int64(values[place + 1]) << 8 | np.int64(values[place + 2]) << 16


@compiled
def _three_words(number: np.int64) -> tuple[np.uint64, np.uint64, np.uint64]:
    """The bytes of eight pixels of one id."""
    one = np.uint64(number)
    two = one | one << np.uint64(24)
    return (
        two | one << np.uint64(48),
        one >> np.uint64(16) | two << np.uint64(8) | one << np.uint64(56),
        one >> np.uint64(8) | two << np.uint64(16),
    )


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

    Regions are large: eight pixels at a time are compared with the last before each is looked at.

    Args:
        truth, predicted: [3 pixels], at least one pixel.
        truth_words, predicted_words: the same bytes, as far as they fill groups of three words.
        keys: [a power of two], EMPTY before; holds the keys after.
        counts: the same, of zeros before; pixels of each key after.

    Returns:
        Whether the table was large enough.
    """
    num_pixels, used, start = len(truth) // 3, 0, 0
    t, p = _id(truth, 0), _id(predicted, 0)
    t0, t1, t2 = _three_words(t)
    p0, p1, p2 = _three_words(p)
    groups = len(truth_words) // 3
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
            new_t, new_p = _id(truth, 3 * pixel), _id(predicted, 3 * pixel)
            if new_t != t or new_p != p:
                used += _add(t << 24 | p, pixel - start, keys, counts)
                if 2 * used > len(keys):
                    return False
                t, p, start = new_t, new_p, pixel
        t0, t1, t2 = _three_words(t)
        p0, p1, p2 = _three_words(p)
    _add(t << 24 | p, num_pixels - start, keys, counts)
    return True


@compiled
def count_ids(
    truth: NDArray[np.uint32],
    predicted: NDArray[np.uint32],
    keys: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> bool:
    """Count the pairs of two maps of ids [pixels], at least one; the rest as `count_colours`."""
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
