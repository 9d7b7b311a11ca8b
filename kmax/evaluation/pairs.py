"""How many pixels each pair of segments shares: what both panoptic quality and mean IoU are counted from.

Legend of shapes: H W pixels, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

VOID = 0
_GROUP = 24  # bytes of eight pixels of three


@dataclass(frozen=True)
class Pairs:
    """The pairs of ids that occur at a common pixel, by ascending ground truth id, then predicted id.

    Attributes:
        truth: int64 [P], id in the ground truth map.
        predicted: int64 [P], id in the predicted map.
        pixels: int64 [P], number of pixels; all positive.
    """

    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    pixels: NDArray[np.int64]


def count_pairs(truth: NDArray[Any], predicted: NDArray[Any]) -> Pairs:
    """Count pixels per pair of ids of two maps of 24-bit ids.

    Maps consist of regions, so the pixels are cut into runs of an equal pair (in reading order), and only the
    runs, about a fiftieth of the pixels, are looked up in a table.

    Args:
        truth, predicted: both uint8 [H, W, 3] (id = R + 256 G + 65536 B), or both integers [H, W].

    Raises:
        ValueError: the shapes differ.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"maps of shapes {truth.shape} and {predicted.shape}")
    if not truth.size:
        return Pairs(*(np.zeros(0, np.int64) for _ in range(3)))
    # Here, since numba takes half a second to import.
    from kmax.evaluation.pair_loops import EMPTY, count_colours, count_ids

    a, b = truth.reshape(-1), predicted.reshape(-1)
    slots, fits = 1024, False
    while not fits:
        table, counts = np.full(slots, EMPTY, np.int64), np.zeros(slots, np.int64)
        if truth.ndim == 3:
            grouped = len(a) // _GROUP * _GROUP
            words = a[:grouped].view(np.uint64), b[:grouped].view(np.uint64)
            fits = count_colours(a, b, words[0], words[1], table, counts)
        else:
            fits = count_ids(a.astype(np.uint32), b.astype(np.uint32), table, counts)
        slots *= 4
    slot = counts.nonzero()[0]
    slot = slot[table[slot].argsort()]
    keys = table[slot]
    return Pairs(keys >> 24, keys & (2**24 - 1), counts[slot])
