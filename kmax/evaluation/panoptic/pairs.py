"""Number of pixels that each pair of segments shares, from which panoptic quality and mean IoU are counted.

Legend of shapes: H W pixels, P pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.data.formats.png import RGB, PngFile, decode_rgb, filtered_lines, require_colours

VOID = 0
_GROUP = 24  # eight pixels of three bytes


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

    Maps consist of regions, so only runs of equal pairs (in reading order), about a fiftieth of the pixels,
    are looked up in a table.

    Args:
        truth, predicted: both uint8 [H, W, 3] (id = R + 256 G + 65536 B), or both integers [H, W].

    Raises:
        ValueError: the shapes differ.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"maps of shapes {truth.shape} and {predicted.shape}")
    if not truth.size:
        return Pairs(*(np.zeros(0, np.int64) for _ in range(3)))
    # Imported here and below, since importing numba takes half a second.
    from kmax.evaluation.panoptic.pair_loops import count_colours, count_ids

    a, b = truth.reshape(-1), predicted.reshape(-1)
    if truth.ndim == 3:
        grouped = len(a) // _GROUP * _GROUP
        words = a[:grouped].view(np.uint64), b[:grouped].view(np.uint64)
        return _tabulated(partial(count_colours, a, b, *words))
    return _tabulated(partial(count_ids, a.astype(np.uint32), b.astype(np.uint32)))


def count_png_pairs(truth: PngFile, predicted: PngFile) -> Pairs:
    """`count_pairs` of two panoptic PNGs; if possible, without holding all their pixels in memory.

    Raises:
        InputError: as `decode_rgb`.
        ValueError: the sizes differ.
    """
    if truth.size != predicted.size:
        raise ValueError(f"maps of {truth.size} and {predicted.size} pixels")
    for png in (truth, predicted):
        require_colours(png)
    if truth.color_type == predicted.color_type == RGB:
        a, b = filtered_lines(truth), filtered_lines(predicted)
        if a is not None and b is not None:
            from kmax.evaluation.panoptic.pair_loops import count_colour_lines

            return _tabulated(partial(count_colour_lines, a, b))
    return count_pairs(decode_rgb(truth), decode_rgb(predicted))


def _tabulated(count: Callable[[NDArray[np.int64], NDArray[np.int64]], bool]) -> Pairs:
    """The pairs that `count` adds to a table; it returns whether the table was large enough."""
    from kmax.evaluation.panoptic.pair_loops import EMPTY

    slots, fits = 1024, False
    while not fits:
        table, counts = np.full(slots, EMPTY, np.int64), np.zeros(slots, np.int64)
        fits = count(table, counts)
        slots *= 4
    slot = counts.nonzero()[0]
    slot = slot[table[slot].argsort()]
    keys = table[slot]
    return Pairs(keys >> 24, keys & (2**24 - 1), counts[slot])
