"""Average precision of instances by the rules of Cityscapes, equal to cityscapesscripts.

A prediction matches a ground truth instance when their IoU exceeds the overlap threshold. Of several matches
of one instance the most confident is the true positive. Unmatched predictions are false positives unless
more than the threshold's share of their pixels lies on void, on a group, or on an instance below 100 pixels.
Average precision is the area below precision over recall by half steps to both sides, so it is not COCO's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.errors import InputWarnings
from kmax.evaluation.cityscapes.cityscapes_format import INSTANCE_CLASSES, find_frames
from kmax.evaluation.cityscapes.cityscapes_instances import FrameOverlaps, count_frame
from kmax.evaluation.score_provenance import Provenance, files_digest
from kmax.evaluation.workers import each_image
from kmax.evaluator_version import VERSION

EVALUATOR = "kmax Cityscapes instance AP (cityscapesscripts rules)"
PROTOCOL = "8 classes, IoU 0.50 to 0.95, instances of at least 100 pixels"
OVERLAPS = np.arange(0.5, 1.0, 0.05)
SMALLEST = 100


@dataclass(frozen=True)
class CityscapesAP:
    """Average precision [classes, overlaps]; nan for classes without ground truth."""

    precision: NDArray[np.float64]
    images: list[str]
    warnings: list[str]
    provenance: Provenance | None = None

    def to_json(self) -> dict[str, Any]:
        """Means over classes and overlaps, and the same per class; None where there is no ground truth."""
        return {
            "evaluator": EVALUATOR,
            "version": VERSION,
            **({"provenance": self.provenance.to_json()} if self.provenance else {}),
            "ap": _mean(self.precision),
            "ap50": _mean(self.precision[:, 0]),
            "per_category": {
                str(label.id): {
                    "ap": _mean(row),
                    "ap50": _mean(row[:1]),
                    "per_overlap": [_mean(row[i : i + 1]) for i in range(len(OVERLAPS))],
                }
                for label, row in zip(INSTANCE_CLASSES, self.precision, strict=True)
            },
        }


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None


def evaluate_files(
    truth_dir: Path,
    predicted_dir: Path,
    workers: int | None = 1,
    strict: bool = False,
    split: str | None = None,
) -> CityscapesAP:
    """Average precision of predictions in Cityscapes' format for test servers.

    Args:
        truth_dir: folder with `*_gtFine_instanceIds.png` at any depth, such as `gtFine/val`.
        predicted_dir: folder with `<city>_<sequence>_<frame>*.txt` at any depth; their lines are the path of
            a mask (from the text file's folder), a label id and a confidence.
        workers: processes; None: as many as cores and memory allow.
        strict: reject unusual input that the official evaluator silently accepts, instead of warning.
        split: its name for the provenance; None: the name of `truth_dir`.

    Raises:
        InputError: frames without prediction; every invalid line or mask.
    """
    warnings = InputWarnings()
    frames, num_unmatched = find_frames(truth_dir, predicted_dir, "_gtFine_instanceIds.png", ".txt")
    if num_unmatched:
        warnings.add(
            "predictions: frames that are not in the ground truth are ignored", f"{num_unmatched} of them"
        )
    one = partial(count_frame, predicted_dir=Path(predicted_dir))
    counts = each_image(one, frames, workers, warnings, strict)
    truth, predicted = (
        files_digest(None, (item for count in counts for item in count.sha256[side])) for side in (0, 1)
    )
    name = split or Path(truth_dir).resolve().name
    return CityscapesAP(
        average_precision(counts),
        [frame.name for frame in frames],
        warnings.lines(),
        Provenance(EVALUATOR, VERSION, PROTOCOL, name, len(frames), truth, predicted),
    )


def average_precision(frames: Sequence[FrameOverlaps]) -> NDArray[np.float64]:
    """Average precision of all frames together [classes, overlaps]."""
    every = _join(frames)
    return np.array(
        [
            [_class_precision(every, index, float(overlap)) for overlap in OVERLAPS]
            for index in range(len(INSTANCE_CLASSES))
        ]
    )


def _join(frames: Sequence[FrameOverlaps]) -> FrameOverlaps:
    """Concatenate the counts of all frames; overlaps index the joined columns."""
    overlaps, predictions, regions = [np.zeros((0, 3), np.int64)], 0, 0
    for frame in frames:
        overlaps.append(frame.overlap + np.array([predictions, regions, 0]))
        predictions += len(frame.predicted_class)
        regions += len(frame.truth_class)
    names = {field.name for field in fields(FrameOverlaps)} - {"overlap", "sha256"}
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(frame, name) for frame in frames]) for name in names
    }
    return replace(frames[0], overlap=np.concatenate(overlaps), **columns)


def _class_precision(all_: FrameOverlaps, index: int, threshold: float) -> float:
    """Average precision of one class at one overlap threshold; nan without ground truth."""
    tiny = all_.truth_pixels < SMALLEST
    wanted = (all_.truth_class == index) & ~all_.truth_group & ~tiny
    candidates = all_.predicted_class == index
    if not wanted.any():
        return float("nan")
    prediction, region, common = all_.overlap.T
    iou = common / (all_.truth_pixels[region] + all_.predicted_pixels[prediction] - common)
    hit = (iou > threshold) & (all_.truth_class[region] == index)

    # Hits by region, the most confident first: the first of a region is true, the others are duplicates.
    hits = np.flatnonzero(hit & wanted[region])
    hits = hits[np.lexsort((-all_.confidence[prediction[hits]], region[hits]))]
    true = np.ones(len(hits), np.bool_)
    true[1:] = region[hits][1:] != region[hits][:-1]

    ignored = all_.void_pixels.astype(np.float64)
    # A tiny group counts twice.
    weight = all_.truth_group[region].astype(np.int64) + tiny[region]
    np.add.at(ignored, prediction, common * weight)
    spurious = candidates & ~(ignored / all_.predicted_pixels > threshold)
    spurious[prediction[hit]] = False

    scores = np.concatenate([all_.confidence[prediction[hits]], all_.confidence[spurious]])
    truth = np.concatenate([true, np.zeros(int(spurious.sum()), np.bool_)])
    return _area(scores, truth, int(wanted.sum()) - int(true.sum()))


def _area(scores: NDArray[np.float64], true: NDArray[np.bool_], missed: int) -> float:
    """Area below precision over recall, which have one point per distinct score and (1, 0) at the end.

    Each precision is weighted by half the recall between its neighbours; the curve is continued to both
    sides, by the first recall and by 0.
    """
    if not len(scores):
        return 0.0
    order = np.argsort(scores)
    _, first = np.unique(scores[order], return_index=True)
    below = np.concatenate([[0], np.cumsum(true[order])])[first]
    positives = int(true.sum()) - below
    precision = np.append(positives / (len(scores) - first), 1.0)
    recall = np.append(positives / (int(true.sum()) + missed), 0.0)
    padded = np.concatenate([recall[:1], recall, [0.0]])
    return float(precision @ (0.5 * (padded[:-2] - padded[2:])))
