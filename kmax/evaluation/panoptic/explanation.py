"""Error analysis of panoptic quality: kinds of errors, confusions between classes, and the worst images.

Per category and size of object, with D = TP + FP/2 + FN/2:

    PQ             = (sum of IoU over matches) / D
    segmentation   = (sum of 1 - IoU over matches + poor masks / 2) / D
    classification = (wrong classes / 2) / D
    missed         = (missed / 2) / D
    spurious       = (spurious / 2) / D

Each false negative and each false positive has exactly one outcome, so the five add up to 1. Those of a group
are means over its categories that occur, as PQ is, and add up to 1 too.

Legend of shapes: I images, C categories, Z sizes ("all" and those of objects), R rows of outcomes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.csv_files import csv_text
from kmax.data.formats.coco_panoptic import CategoryFacts, ImageId
from kmax.evaluation.panoptic import pq
from kmax.evaluation.panoptic.image_segments import ImageSegments, count_images
from kmax.evaluation.panoptic.panoptic_files import PanopticArguments
from kmax.evaluation.panoptic.segment_outcomes import (
    NO_OUTCOMES,
    NONE,
    SIZE_EDGES,
    SIZES,
    Outcome,
    SegmentOutcomes,
    concatenate,
    find_outcomes,
)
from kmax.evaluator_version import VERSION
from kmax.files import write_json, write_text
from kmax.outputs import IsOurs, begins_with, json_object

EVALUATOR = "kmax split of panoptic quality"
PARTS = ("pq", "segmentation", "classification", "missed", "spurious")
ALL_SIZES = ("all", *SIZES)
PART_COLUMNS: tuple[str, ...] = ("category_id", "name", "isthing", "size", *PARTS)
PART_COLUMNS += tuple(f"{kind.name.lower()}_segments" for kind in Outcome)
CONFUSION_COLUMNS = ("truth_id", "truth", "predicted_id", "predicted", "segments")
IMAGE_COLUMNS = ("image_id", "quality", *(kind.name.lower() for kind in Outcome))
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Explanation:
    """The outcomes of all segments of a split.

    Attributes:
        rows: of all images [R].
        image: index into `image_ids` of each row [R].
    """

    categories: list[CategoryFacts]
    image_ids: Sequence[ImageId]
    rows: SegmentOutcomes
    image: NDArray[np.int64]

    def segments(self) -> dict[Outcome, NDArray[np.int64]]:
        """Number of rows with each outcome, per size and category [Z, C]; a match is one row."""
        return {kind: self._per_size(self.rows.outcome == kind).astype(np.int64) for kind in Outcome}

    def parts(self) -> dict[str, Floats]:
        """The five parts per size and category [Z, C], which add up to 1; 0 where D is 0."""
        matched = self.rows.outcome == Outcome.MATCHED
        iou, half = self._per_size(matched, self.rows.iou), {k: v / 2 for k, v in self.segments().items()}
        matches = 2 * half[Outcome.MATCHED]
        sums = {
            "pq": iou,
            "segmentation": matches - iou + half[Outcome.POOR_MASK],
            "classification": half[Outcome.WRONG_CLASS],
            "missed": half[Outcome.MISSED],
            "spurious": half[Outcome.SPURIOUS],
        }
        whole = matches + sum(half[kind] for kind in Outcome if kind != Outcome.MATCHED)
        zeros = np.zeros_like(iou)
        return {name: np.divide(sums[name], whole, out=zeros.copy(), where=whole > 0) for name in PARTS}

    def group_parts(self) -> dict[str, dict[str, dict[str, float | int | None]]]:
        """By group and size: the parts (None if no category occurs) and the number of categories."""
        parts = self.parts()
        occurs = np.sum(list(self.segments().values()), axis=0) > 0
        result: dict[str, dict[str, dict[str, float | int | None]]] = {}
        for group in pq.GROUPS:
            inside = pq.members(self.categories, group)
            result[group] = {}
            for index, size in enumerate(ALL_SIZES):
                chosen = inside & occurs[index]
                n = int(chosen.sum())
                means = {k: float(v[index, chosen].mean()) if n else None for k, v in parts.items()}
                result[group][size] = {**means, "n": n}
        return result

    def confusion(self) -> NDArray[np.int64]:
        """Segments by class of the ground truth and of the prediction, [C + 1, C + 1]; the last is "none".

        Two masks with IoU above 0.5 are one entry, whatever their classes; all others are in the last row
        (predicted only) or column (ground truth only).
        """
        rows, none = self.rows, len(self.categories)
        table = np.zeros((none + 1, none + 1), np.int64)
        matched, wrong = rows.outcome == Outcome.MATCHED, rows.outcome == Outcome.WRONG_CLASS
        other = np.where(matched, rows.category, np.where(rows.other == NONE, none, rows.other))
        np.add.at(table, (rows.category[rows.true], other[rows.true]), 1)
        # A predicted segment of a wrong class is in the row of the ground truth segment that it covers.
        alone = ~rows.true & ~wrong
        np.add.at(table, (np.full(int(alone.sum()), none), rows.category[alone]), 1)
        return table

    def per_image(self) -> tuple[Floats, Floats]:
        """Each image's quality, sum of IoU / D over all its segments (nan without any), and D; both [I]."""
        size, matched = len(self.image_ids), self.rows.outcome == Outcome.MATCHED
        whole: Floats = np.bincount(self.image, np.where(matched, 1.0, 0.5), size).astype(np.float64)
        iou: Floats = np.bincount(self.image, self.rows.iou, size).astype(np.float64)
        return np.divide(iou, whole, out=np.full(size, np.nan), where=whole > 0), whole

    def worst(self) -> list[int]:
        """Indices of the images that have segments, lowest quality first; then those with more segments."""
        quality, whole = self.per_image()
        order = np.lexsort((-whole, quality))
        return [index for index in order.tolist() if not np.isnan(quality[index])]

    def _per_size(self, chosen: NDArray[np.bool_], weights: Floats | None = None) -> Floats:
        """Sums over the chosen rows by size and category [Z, C]."""
        size = len(self.categories)
        cells = self.rows.size[chosen].astype(np.int64) * size + self.rows.category[chosen]
        sums = np.bincount(cells, None if weights is None else weights[chosen], len(SIZES) * size)
        table = sums.reshape(len(SIZES), size).astype(np.float64)
        return np.concatenate([table.sum(0, keepdims=True), table])


def explain(
    categories: list[CategoryFacts], image_ids: Sequence[ImageId], outcomes: Sequence[SegmentOutcomes]
) -> Explanation:
    """The error analysis of a split, given the outcomes of each image in order."""
    image = np.repeat(np.arange(len(outcomes)), [len(one.outcome) for one in outcomes])
    return Explanation(categories, image_ids, concatenate([NO_OUTCOMES, *outcomes]), image)


def explain_files(arguments: PanopticArguments) -> tuple[pq.PQResult, Explanation]:
    """Panoptic quality of prediction files and its error analysis; errors as `pq.evaluate_files`."""
    files = arguments.open()
    count = partial(_count, num_categories=len(files.categories))
    results = count_images(files, count, arguments.workers, arguments.strict)
    images = files.categories, [image.image_id for image in files.images]
    quality = pq.collect(*images, [counts for counts, _ in results], files.warnings.lines())
    provenance = files.provenance(pq.EVALUATOR, pq.PROTOCOL, arguments.split)
    return replace(quality, provenance=provenance), explain(*images, [rows for _, rows in results])


def _count(image: ImageSegments, num_categories: int) -> tuple[pq.Counts, SegmentOutcomes]:
    matching = pq.match_segments(image, num_categories)
    return pq.count(image, matching, num_categories), find_outcomes(image, matching)


def explanation_files(folder: Path) -> dict[Path, IsOurs]:
    """The files that `write_explanation` writes, each with a function that recognises an earlier one."""
    columns = {"parts.csv": PART_COLUMNS, "confusion.csv": CONFUSION_COLUMNS, "images.csv": IMAGE_COLUMNS}
    tables = {folder / name: partial(begins_with, start=",".join(names)) for name, names in columns.items()}
    return {folder / "summary.json": lambda path: "size_edges" in json_object(path), **tables}


def write_explanation(folder: Path, explanation: Explanation) -> None:
    """Write summary.json, parts.csv, confusion.csv and images.csv into `folder`."""
    small, large = SIZE_EDGES
    summary: dict[str, Any] = {
        "evaluator": EVALUATOR,
        "version": VERSION,
        "images": len(explanation.image_ids),
        "size_edges": {"small": [0, small], "medium": [small, large], "large": [large, None]},
        "groups": explanation.group_parts(),
    }
    write_json(folder / "summary.json", summary)
    write_text(folder / "parts.csv", csv_text(PART_COLUMNS, _part_rows(explanation)))
    write_text(folder / "confusion.csv", csv_text(CONFUSION_COLUMNS, _confusion_rows(explanation)))
    write_text(folder / "images.csv", csv_text(IMAGE_COLUMNS, _image_rows(explanation)))


def _part_rows(explanation: Explanation) -> Iterable[list[Any]]:
    parts, segments = explanation.parts(), explanation.segments()
    for column, category in enumerate(explanation.categories):
        for row, size in enumerate(ALL_SIZES):
            counts = [int(segments[kind][row, column]) for kind in Outcome]
            shares = [float(parts[name][row, column]) if any(counts) else "" for name in PARTS]
            yield [category.id, category.name, int(category.isthing), size, *shares, *counts]


def _confusion_rows(explanation: Explanation) -> Iterable[list[Any]]:
    table = explanation.confusion()
    names = [*((category.id, category.name) for category in explanation.categories), ("", "")]
    for row, column in np.argwhere(table).tolist():
        yield [*names[row], *names[column], int(table[row, column])]


def _image_rows(explanation: Explanation) -> Iterable[list[Any]]:
    quality, _ = explanation.per_image()
    size, outcome = len(explanation.image_ids), explanation.rows.outcome
    counts = [np.bincount(explanation.image[outcome == kind], minlength=size) for kind in Outcome]
    for index in explanation.worst():
        found = [int(count[index]) for count in counts]
        yield [explanation.image_ids[index], float(quality[index]), *found]
