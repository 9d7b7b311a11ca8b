"""The outcome of each segment: matched, or one of four kinds of error.

Legend of shapes: R segments that count in panoptic quality, G P segments of ground truth and prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from kmax.evaluation.panoptic.image_segments import ImageSegments
from kmax.evaluation.panoptic.pq import Matching

# Edges of COCO's object sizes, in pixels of area: small is below the first, large from the second on.
SIZES = ("small", "medium", "large")
SIZE_EDGES = (32**2, 96**2)
# An unmatched mask with at least this IoU has found its segment, but with a poor outline.
POOR_IOU = 0.1
NONE = -1


class Outcome(IntEnum):
    """Outcome of a segment of the ground truth or of the prediction.

    Attributes:
        MATCHED: a ground truth and a predicted segment, matched as panoptic quality matches them.
        POOR_MASK: unmatched; the other map has a segment of its class with IoU of 0.1 to 0.5.
        WRONG_CLASS: unmatched; the other map has a segment of another class with IoU above 0.5.
        MISSED: ground truth, unmatched, and none of these.
        SPURIOUS: predicted, unmatched, and none of these.
    """

    MATCHED = 0
    POOR_MASK = 1
    WRONG_CLASS = 2
    MISSED = 3
    SPURIOUS = 4


@dataclass(frozen=True)
class SegmentOutcomes:
    """A row per match and per unmatched segment that counts.

    Attributes:
        outcome: int8 [R].
        true: whether the row describes a segment of the ground truth, as matches do, bool [R].
        category: index of the class to whose panoptic quality the row belongs, int64 [R].
        other: class of the segment in the other map for WRONG_CLASS, else -1, int64 [R].
        size: index into SIZES, by the area in the ground truth JSON or the predicted pixels, int8 [R].
        iou: of matches, else 0, float64 [R].
    """

    outcome: NDArray[np.int8]
    true: NDArray[np.bool_]
    category: NDArray[np.int64]
    other: NDArray[np.int64]
    size: NDArray[np.int8]
    iou: NDArray[np.float64]


NO_OUTCOMES = SegmentOutcomes(
    np.zeros(0, np.int8),
    np.zeros(0, np.bool_),
    np.zeros(0, np.int64),
    np.zeros(0, np.int64),
    np.zeros(0, np.int8),
    np.zeros(0),
)


def find_outcomes(image: ImageSegments, matching: Matching) -> SegmentOutcomes:
    """The outcomes of the segments of one image. Crowds and predictions on void or crowds are not counted."""
    iou = _all_iou(image, matching)
    same = image.truth_classes[:, None] == image.predicted_classes[None]
    true = _Side(image.truth_classes, image.truth_areas, matching.missed, Outcome.MISSED)
    predicted = _Side(
        image.predicted_classes, matching.areas.astype(np.float64), matching.spurious, Outcome.SPURIOUS
    )
    matched = SegmentOutcomes(
        outcome=np.full(len(matching.truth), Outcome.MATCHED, np.int8),
        true=np.ones(len(matching.truth), np.bool_),
        category=true.classes[matching.truth],
        other=np.full(len(matching.truth), NONE, np.int64),
        size=_sizes(true.areas[matching.truth]),
        iou=matching.iou,
    )
    return concatenate(
        [matched, _lost(true, predicted.classes, iou, same), _lost(predicted, true.classes, iou.T, same.T)]
    )


def concatenate(parts: Sequence[SegmentOutcomes]) -> SegmentOutcomes:
    """All rows of several tables, in order."""
    columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(SegmentOutcomes)}
    return SegmentOutcomes(**{name: np.concatenate(column) for name, column in columns.items()})


@dataclass(frozen=True)
class _Side:
    """The segments of one map [G]; `lost` is the outcome of those that the other map has not found at all."""

    classes: NDArray[np.int64]
    areas: NDArray[np.float64]
    unmatched: NDArray[np.bool_]
    lost: Outcome


def _all_iou(image: ImageSegments, matching: Matching) -> NDArray[np.float64]:
    """IoU of each ground truth and predicted segment, whatever their classes [G, P]; void is excluded.

    0 for crowds and unknown classes, and if the area in the ground truth JSON is impossible.
    """
    shared, void = matching.overlap[:-1], matching.overlap[-1]
    union = matching.areas[None] + image.truth_areas[:, None] - shared - void[None]
    counts = (~image.truth_crowd & (image.truth_classes >= 0))[:, None] & (shared > 0) & (union > 0)
    iou: NDArray[np.float64] = np.divide(shared, union, out=np.zeros(shared.shape), where=counts)
    return iou


def _lost(
    side: _Side, other_classes: NDArray[np.int64], iou: NDArray[np.float64], same: NDArray[np.bool_]
) -> SegmentOutcomes:
    """Rows of the unmatched segments of one map.

    Args:
        other_classes: of the segments of the other map [P].
        iou, same: IoU and whether the classes are the same [G, P].
    """
    chosen = np.flatnonzero(side.unmatched)
    iou, same = iou[chosen], same[chosen]
    other_iou = np.where(same, 0.0, iou)
    wrong = (other_iou > 0.5).any(1)
    poor = (same & (iou >= POOR_IOU)).any(1) & ~wrong
    other = np.full(len(chosen), NONE, np.int64)
    if wrong.any():
        other[wrong] = other_classes[other_iou[wrong].argmax(1)]
    return SegmentOutcomes(
        outcome=np.select([wrong, poor], [Outcome.WRONG_CLASS, Outcome.POOR_MASK], side.lost).astype(np.int8),
        true=np.full(len(chosen), side.lost == Outcome.MISSED),
        category=side.classes[chosen],
        other=other,
        size=_sizes(side.areas[chosen]),
        iou=np.zeros(len(chosen)),
    )


def _sizes(areas: NDArray[np.float64]) -> NDArray[np.int8]:
    """Index into SIZES; a missing area counts as small."""
    return np.digitize(np.nan_to_num(areas), SIZE_EDGES).astype(np.int8)
