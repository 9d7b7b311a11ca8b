"""How many pixels each pair of segments shares: what both panoptic quality and mean IoU are counted from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VOID = 0


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


def count_pairs(truth: NDArray[np.int32], predicted: NDArray[np.int32]) -> Pairs:
    """Count pixels per pair of ids of two maps [H, W] of 24-bit ids.

    Maps consist of regions, so the pixels are first cut into runs of an equal pair (in reading order), and
    only the runs, about a fiftieth of the pixels, are sorted.
    """
    truth, predicted = truth.reshape(-1), predicted.reshape(-1)
    changes = truth[1:] != truth[:-1]
    changes |= predicted[1:] != predicted[:-1]
    starts = np.concatenate([[0] if truth.size else [], np.flatnonzero(changes) + 1]).astype(np.int64)
    keys = truth[starts].astype(np.int64) << 24 | predicted[starts]
    unique = np.unique(keys)
    inverse = np.searchsorted(unique, keys)  # faster than return_inverse, which cannot use a plain sort
    lengths = np.diff(starts, append=truth.size)
    pixels = np.bincount(inverse, weights=lengths, minlength=len(unique)).astype(np.int64)
    return Pairs(unique >> 24, unique & (2**24 - 1), pixels)
