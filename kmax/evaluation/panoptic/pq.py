"""Panoptic quality (Kirillov et al., CVPR 2019), equal to the official panopticapi.

A predicted and a ground truth segment of one category match when their IoU exceeds 0.5, with void pixels
excluded from the union. Per category, over all images: SQ = sum of IoU / TP, RQ = TP / (TP + FP/2 + FN/2),
PQ = SQ x RQ; groups are means over the categories that occur.

Legend of shapes: I images, C categories, G P segments of the ground truth and of the prediction of one image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.data.formats.coco_panoptic import CategoryFacts, ImageId
from kmax.errors import InputError
from kmax.evaluation.panoptic.image_segments import ImageSegments, count_images
from kmax.evaluation.panoptic.pairs import VOID
from kmax.evaluation.panoptic.panoptic_files import PanopticArguments
from kmax.evaluation.score_provenance import Provenance
from kmax.evaluator_version import VERSION

EVALUATOR = "kmax panoptic quality (panopticapi rules)"
PROTOCOL = "panoptic maps at image size, one segment per pixel"
GROUPS: dict[str, bool | None] = {"all": None, "things": True, "stuff": False}


@dataclass(frozen=True)
class Counts:
    """Sums per image and category, or any sums of them: float64 [..., C], integers except for `iou_sum`."""

    iou_sum: NDArray[np.float64]
    tp: NDArray[np.float64]
    fp: NDArray[np.float64]
    fn: NDArray[np.float64]

    def scores(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """PQ, SQ and RQ per category [..., C]; 0 if the category does not occur or has no match."""
        occurring = self.tp + 0.5 * self.fp + 0.5 * self.fn
        with np.errstate(divide="ignore", invalid="ignore"):
            pq = np.where(occurring > 0, self.iou_sum / occurring, 0.0)
            sq = np.where(self.tp > 0, self.iou_sum / self.tp, 0.0)
            rq = np.where(occurring > 0, self.tp / occurring, 0.0)
        return pq, sq, rq

    def occurs(self) -> NDArray[np.bool_]:
        """Whether each category has at least one segment [..., C]."""
        return (self.tp + self.fp + self.fn) > 0


@dataclass(frozen=True)
class PQResult:
    """Panoptic quality of a split.

    Attributes:
        per_image: counts [I, C].
        warnings: unusual input that was accepted, one line per kind.
        provenance: the origin of the counts, if they come from files.
    """

    categories: list[CategoryFacts]
    image_ids: Sequence[ImageId]
    per_image: Counts
    warnings: list[str]
    provenance: Provenance | None = None

    def counts(self) -> Counts:
        """Counts over all images [C]."""
        images = self.per_image
        return Counts(*(a.sum(0) for a in (images.iou_sum, images.tp, images.fp, images.fn)))

    def members(self, group: str) -> NDArray[np.bool_]:
        """Which categories belong to the group "all", "things" or "stuff" [C]."""
        return members(self.categories, group)

    def group(self, name: str) -> dict[str, float | int | None]:
        """PQ, SQ, RQ (fractions; None for an empty group) and the number of categories that occur."""
        counts = self.counts()
        chosen = self.members(name) & counts.occurs()
        n = int(chosen.sum())
        scores: list[float | None] = [float(s[chosen].mean()) if n else None for s in counts.scores()]
        return {"pq": scores[0], "sq": scores[1], "rq": scores[2], "n": n}

    def to_json(self) -> dict[str, Any]:
        """Scores of the groups and per category."""
        counts = self.counts()
        columns = zip(*counts.scores(), counts.iou_sum, counts.tp, counts.fp, counts.fn, strict=True)
        return {
            "evaluator": self.provenance.evaluator if self.provenance else EVALUATOR,
            "version": VERSION,
            **({"provenance": self.provenance.to_json()} if self.provenance else {}),
            **{name: self.group(name) for name in GROUPS},
            "per_category": {
                str(category.id): {
                    "pq": float(pq),
                    "sq": float(sq),
                    "rq": float(rq),
                    "iou_sum": float(iou_sum),
                    "tp": int(tp),
                    "fp": int(fp),
                    "fn": int(fn),
                }
                for category, (pq, sq, rq, iou_sum, tp, fp, fn) in zip(self.categories, columns, strict=True)
            },
        }


def members(categories: Sequence[CategoryFacts], group: str) -> NDArray[np.bool_]:
    """Which categories belong to the group "all", "things" or "stuff" [C]."""
    wanted = GROUPS[group]
    return np.array([wanted is None or category.isthing == wanted for category in categories])


@dataclass(frozen=True)
class Matching:
    """The matching of the segments of one image.

    Attributes:
        overlap: common pixels, int64 [G + 1, P]; the last row is void.
        areas: pixels of the predicted segments, int64 [P].
        truth, predicted, iou: the matches: rows, columns and IoU of each.
        missed: ground truth segments that count as false negatives, bool [G].
        spurious: predicted segments that count as false positives, bool [P].
    """

    overlap: NDArray[np.int64]
    areas: NDArray[np.int64]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    iou: NDArray[np.float64]
    missed: NDArray[np.bool_]
    spurious: NDArray[np.bool_]


def match(image: ImageSegments, num_categories: int) -> Counts:
    """Match the segments of one image, and return its counts [C].

    Raises:
        InputError: a ground truth area that the match needs is missing or makes a union empty.
    """
    return count(image, match_segments(image, num_categories), num_categories)


def match_segments(image: ImageSegments, num_categories: int) -> Matching:
    """Match the segments of one image.

    Raises:
        InputError: as `match`.
    """
    # Rows: ground truth segments, then void. If void is listed as a segment, both rows have its pixels.
    pairs = image.pairs
    overlap = np.zeros((len(image.truth_ids) + 1, len(image.predicted_ids)), np.int64)
    rows, known_row = _positions(image.truth_ids, pairs.truth)
    columns, known_column = _positions(image.predicted_ids, pairs.predicted)
    known = known_row & known_column
    overlap[rows[known], columns[known]] = pairs.pixels[known]
    known = (pairs.truth == VOID) & known_column
    overlap[-1, columns[known]] = pairs.pixels[known]
    areas = np.bincount(columns[known_column], pairs.pixels[known_column], len(image.predicted_ids))
    areas = areas.astype(np.int64)  # exact: sums below 2**53

    same = image.truth_classes[:, None] == image.predicted_classes[None]
    same &= ~image.truth_crowd[:, None] & (overlap[:-1] > 0)
    truth, predicted = same.nonzero()
    shared = overlap[truth, predicted]
    union = areas[predicted] + image.truth_areas[truth] - shared - overlap[-1, predicted]
    for index in (np.isnan(union) | (union == 0)).nonzero()[0].tolist():
        segment, area = image.truth_ids[truth[index]], image.truth_areas[truth[index]]
        raise InputError(
            f"image {image.image_id}: ground truth segment {segment}: impossible area {area} in the JSON"
        )
    iou = shared / union
    matched = iou > 0.5
    truth, predicted, iou = truth[matched], predicted[matched], iou[matched]

    missed = ~image.truth_crowd & (image.truth_classes >= 0)
    missed[truth] = False
    # Only the last crowd segment of each category suppresses false positives.
    ignored_pixels = overlap[-1].copy()
    crowds = image.truth_crowd.nonzero()[0]
    if len(crowds):
        crowd_row = np.full(num_categories + 1, -1)
        crowd_row[image.truth_classes[crowds]] = crowds
        row = crowd_row[image.predicted_classes]
        has_crowd = row >= 0
        ignored_pixels[has_crowd] += overlap[row[has_crowd], has_crowd.nonzero()[0]]
    spurious = ~(ignored_pixels / np.maximum(areas, 1) > 0.5)
    spurious[predicted] = False
    return Matching(overlap, areas, truth, predicted, iou, missed, spurious)


def count(image: ImageSegments, matching: Matching, num_categories: int) -> Counts:
    """The counts [C] of one image, given its matching."""

    def per_category(
        classes: NDArray[np.int64], weights: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        return np.bincount(classes, weights, num_categories).astype(np.float64, copy=False)

    classes = image.truth_classes[matching.truth]
    return Counts(
        iou_sum=per_category(classes, matching.iou),
        tp=per_category(classes),
        fp=per_category(image.predicted_classes[matching.spurious]),
        fn=per_category(image.truth_classes[matching.missed]),
    )


def _positions(
    ids: NDArray[np.int64], queries: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The position of each of `queries` in `ids` (distinct, in any order), and whether it is present."""
    if not len(ids):
        return np.zeros(len(queries), np.int64), np.zeros(len(queries), np.bool_)
    order = ids.argsort()
    place = ids.searchsorted(queries, sorter=order)
    position = order.take(place, mode="clip")
    return position, ids[position] == queries


def collect(
    categories: list[CategoryFacts],
    image_ids: Sequence[ImageId],
    counts: Sequence[Counts],
    warnings: list[str],
) -> PQResult:
    """The result for images whose counts [C] are given in order."""

    def stack(name: str) -> NDArray[np.float64]:
        rows = [getattr(c, name) for c in counts]
        return np.stack(rows) if rows else np.zeros((0, len(categories)))

    return PQResult(
        categories, image_ids, Counts(*(stack(n) for n in ("iou_sum", "tp", "fp", "fn"))), warnings
    )


def evaluate_files(arguments: PanopticArguments) -> PQResult:
    """Panoptic quality of predictions in COCO panoptic format.

    Raises:
        InputError: input that crashes panopticapi: one line per fault with image, segment and category.
    """
    files = arguments.open()
    num_categories = len(files.categories)
    count_image = partial(match, num_categories=num_categories)
    counts = count_images(files, count_image, arguments.workers, arguments.strict)
    result = collect(files.categories, [i.image_id for i in files.images], counts, files.warnings.lines())
    return replace(result, provenance=files.provenance(EVALUATOR, PROTOCOL, arguments.split))
