"""How many pixels each pair of segments shares: what both panoptic quality and mean IoU are counted from.

Legend of shapes: H W pixels, R runs of pixels of an equal pair in reading order, P pairs.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

VOID = 0


class _Scratch(threading.local):
    """Memory used again for every image: fresh pages would cost more time than the counting."""

    def __init__(self) -> None:
        self.flags = np.empty((2, 0), np.bool_)
        self.table = np.empty(2**16, np.int32)

    def two_flags(self, size: int) -> NDArray[np.bool_]:
        """Two rows of at least `size` flags, of any content."""
        if self.flags.shape[1] < size:
            self.flags = np.empty((2, size), np.bool_)
        return self.flags[:, :size]


_scratch = _Scratch()


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

    Maps consist of regions, so the pixels are first cut into runs of an equal pair (in reading order), and
    only the runs, about a fiftieth of the pixels, are looked at one by one.

    Args:
        truth, predicted: both uint8 [H, W, 3] (id = R + 256 G + 65536 B), or both integers [H, W].
    """
    step = 3 if truth.ndim == 3 else 1
    truth, predicted = truth.reshape(-1), predicted.reshape(-1)
    num_pixels = truth.size // step
    if not num_pixels:
        return Pairs(*(np.zeros(0, np.int64) for _ in range(3)))
    starts = _run_starts(truth, predicted, step)
    lengths = np.empty(len(starts), np.float64)
    np.subtract(starts[1:], starts[:-1], out=lengths[:-1])
    lengths[-1] = num_pixels - starts[-1]
    return _sums(_ids(truth, starts, step), _ids(predicted, starts, step), lengths)


def _run_starts(truth: NDArray[Any], predicted: NDArray[Any], step: int) -> NDArray[np.int64]:
    """Pixels [R] where the pair changes, ascending, with 0 among them.

    Args:
        step: values per pixel of the flat maps.
    """
    changes, other = _scratch.two_flags(-(-truth.size // 8) * 8)
    changes[:step], changes[truth.size :] = False, False
    changes[0] = True
    inner, other = changes[step : truth.size], other[step : truth.size]
    np.not_equal(truth[step:], truth[:-step], out=inner)
    np.not_equal(predicted[step:], predicted[:-step], out=other)
    inner |= other
    # Changes are rare: eight of their flags are looked at as one word first.
    words = changes.view(np.uint64)
    occupied = np.flatnonzero(words != 0)
    flags = np.flatnonzero(words[occupied].view(np.bool_))
    starts: NDArray[np.int64] = occupied[flags >> 3]
    starts <<= 3
    flags &= 7
    starts += flags
    if step == 1:
        return starts
    starts //= step
    first = np.ones(len(starts), np.bool_)
    np.not_equal(starts[1:], starts[:-1], out=first[1:])
    return starts[first]


def _ids(values: NDArray[Any], pixels: NDArray[np.int64], step: int) -> NDArray[np.uint32]:
    """Ids of some pixels of a flat map."""
    if step == 1:
        return values.take(pixels).astype(np.uint32)
    places = pixels * 3
    ids = values.take(places + 2).astype(np.uint32)
    for channel in (1, 0):
        ids <<= 8
        ids |= values.take(places + channel)
    return ids


def _sums(truth: NDArray[np.uint32], predicted: NDArray[np.uint32], lengths: NDArray[np.float64]) -> Pairs:
    """Total length per distinct pair of ids; all arguments [R].

    Pairs are told apart by a hash, each slot of which names one of its runs. When two pairs share a slot,
    which is seen, sorting takes its place.
    """
    slots = truth * np.uint32(2654435761)
    slots ^= predicted * np.uint32(2246822519)
    slots >>= 16
    table = _scratch.table
    table[slots] = np.arange(len(slots), dtype=np.int32)
    representative = table[slots]
    if (truth[representative] == truth).all() and (predicted[representative] == predicted).all():
        totals = np.bincount(representative, lengths)
        runs = np.flatnonzero(totals)
        keys = truth[runs].astype(np.int64) << 24 | predicted[runs]
        order = np.argsort(keys)
        keys, pixels = keys[order], totals[runs[order]]
    else:
        every = truth.astype(np.int64) << 24 | predicted
        keys, inverse = np.unique(every, return_inverse=True)
        pixels = np.bincount(inverse, lengths)
    return Pairs(keys >> 24, keys & (2**24 - 1), pixels.astype(np.int64))
