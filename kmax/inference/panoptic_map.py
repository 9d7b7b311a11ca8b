"""Panoptic predictions: the map of segment ids, and the tables over masks from which it is computed.

A table has an entry for each mask, 1 to M, and for 0, no mask. Tables are small; only the last step touches
every pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.config import Predict

Table = NDArray[np.int32]
Counts = NDArray[np.number[Any]]  # pixels, or sums over them


@dataclass(frozen=True)
class Segment:
    """One predicted segment: id in the map, contiguous class, score (of class times pixels)."""

    id: int
    class_index: int
    score: float


@dataclass(frozen=True)
class PanopticMap:
    """A panoptic prediction: `ids` int32 [H, W] with 0 = void; each of `segments` has pixels."""

    ids: NDArray[np.int32]
    segments: list[Segment]


def merge_stuff(areas: Counts, classes: NDArray[np.int64], things: NDArray[np.bool_]) -> Table:
    """Give all masks of one stuff class the number of the first of them that has pixels.

    Args:
        areas: [M+1], pixels of each mask; entry 0 is void.
        classes: [M], contiguous class of each mask.
        things: [M].
    """
    first: dict[int, int] = {}
    table = np.arange(len(classes) + 1, dtype=np.int32)
    for index, (category, thing) in enumerate(zip(classes.tolist(), things.tolist(), strict=True), start=1):
        if not thing and areas[index]:
            table[index] = first.setdefault(category, index)
    return table


def drop_small(table: Table, areas: Counts, things: NDArray[np.bool_], predict: Predict) -> Table:
    """Void segments below the area limit of their kind; a segment of exactly the limit stays.

    Args:
        table: [M+1], number of the segment that each mask belongs to.
        areas: [M+1], pixels of each mask.
        things: [M].
    """
    limits = np.where(np.concatenate([[False], things]), predict.thing_area_limit, predict.stuff_area_limit)
    totals = np.bincount(table, weights=areas, minlength=len(table))
    return np.where(totals >= limits, np.arange(len(table)), 0).astype(np.int32)[table]


def pixel_scores(
    segment_of: Table, areas: Counts, shares: Counts, scores: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Score of each segment by its pixels: their mean largest share times their mean class score.

    Args:
        segment_of: [M+1], number of the segment that each mask belongs to.
        areas: [M+1], pixels of each mask that are image.
        shares: [M+1], sum over those pixels of the largest softmax share.
        scores: [M], class score of each mask.

    Returns:
        [M], at the number of each segment less one.
    """
    size = len(segment_of)
    pixels = np.maximum(np.bincount(segment_of, weights=areas, minlength=size), 1)
    share = np.bincount(segment_of, weights=shares, minlength=size) / pixels
    score = np.bincount(segment_of[1:], weights=scores * areas[1:], minlength=size) / pixels
    return (share * score)[1:].astype(np.float32)


def number_segments(
    ids: NDArray[np.int32], classes: NDArray[np.int64], scores: NDArray[np.float32]
) -> PanopticMap:
    """Number the segments that still have pixels 1, 2, ... from the most to the least confident.

    Args:
        ids: [H, W], 1 + index into `classes` and `scores`; 0: void.
    """
    present = np.flatnonzero(np.bincount(ids.ravel(), minlength=len(classes) + 1)[1:])
    table = np.zeros(len(classes) + 1, dtype=np.int32)
    table[present + 1] = np.arange(1, len(present) + 1)
    segments = [
        Segment(number, int(classes[index]), float(scores[index]))
        for number, index in enumerate(present.tolist(), start=1)
    ]
    return PanopticMap(table[ids], segments)
