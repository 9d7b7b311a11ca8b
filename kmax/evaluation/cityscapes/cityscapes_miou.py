"""Mean IoU by the rules of Cityscapes, equal to cityscapesscripts: 19 classes, categories, instance-level.

IoU of a class counts pixels. The instance-level IoU (iIoU) weighs each instance's found and missed pixels by
the average size of its class over its own, so that small objects count like large ones; false positives,
which belong to no instance, count as they are. Categories are groups of classes.

Legend of shapes: L labels 0..33, I images, C the 19 classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.data.formats.coco_panoptic import CategoryFacts
from kmax.errors import InputError, InputWarnings
from kmax.evaluation.cityscapes.cityscapes_format import CATEGORIES, CLASSES, LABELS, find_frames
from kmax.evaluation.score_provenance import Provenance, files_digest
from kmax.evaluation.semantic.label_maps import (
    Digests,
    LabelFiles,
    count_labels,
    known_labels,
    read_labels,
)
from kmax.evaluation.semantic.miou import MiouResult, PixelCounts, collect
from kmax.evaluation.workers import each_image
from kmax.evaluator_version import VERSION

EVALUATOR = "kmax Cityscapes IoU (cityscapesscripts rules)"
PROTOCOL = "19 classes of 34 label ids, ignored labels left out"
_COUNTED = np.array([not label.ignored for label in LABELS])
_IDS = np.array([label.id for label in CLASSES])
# Instance-level categories: those all of whose labels have instances, ignored ones among them.
_INSTANCE_CATEGORIES = {
    category: [label.id for label in LABELS if label.category == category]
    for category in CATEGORIES
    if all(label.has_instances for label in LABELS if label.category == category)
}


@dataclass(frozen=True)
class CityscapesMiou:
    """Counts of a split.

    Attributes:
        pixels: per class and image, from which mean IoU and its interval come.
        confusion: [L, L], pixels by ground truth and predicted label.
        found, missed: [L], weighted pixels of instances by label.
        category_found, category_missed: the same by category, where a label of the category is right.
    """

    pixels: MiouResult
    confusion: NDArray[np.int64]
    found: NDArray[np.float64]
    missed: NDArray[np.float64]
    category_found: dict[str, float]
    category_missed: dict[str, float]

    @property
    def warnings(self) -> list[str]:
        """Accepted unusual input."""
        return self.pixels.warnings

    def to_json(self) -> dict[str, Any]:
        """IoU and iIoU: means over classes and categories that occur, and each; None where it does not."""
        counted = self.confusion * _COUNTED[:, None]
        outside = {label.id: counted[:, label.id].sum() - counted[label.id, label.id] for label in CLASSES}
        class_iiou = {
            str(label.id): _ratio(self.found[label.id], self.missed[label.id], outside[label.id])
            for label in CLASSES
            if label.has_instances
        }
        category_iou, category_iiou = {}, {}
        for category in CATEGORIES:
            inside = [label.id for label in CLASSES if label.category == category]
            others = [label.id for label in CLASSES if label.category != category]
            right = counted[np.ix_(inside, inside)].sum()
            wrong = counted[np.ix_(others, inside)].sum()
            category_iou[category] = _ratio(right, counted[inside].sum() - right, wrong)
            if category in _INSTANCE_CATEGORIES:
                wrong = counted[np.ix_(others, _INSTANCE_CATEGORIES[category])].sum()
                category_iiou[category] = _ratio(
                    self.category_found[category], self.category_missed[category], wrong
                )
        return {
            **self.pixels.to_json(),
            "iiou": _mean(class_iiou),
            "category_iou": _mean(category_iou),
            "category_iiou": _mean(category_iiou),
            "iiou_per_class": class_iiou,
            "iou_per_category": category_iou,
            "iiou_per_category": category_iiou,
        }


def _ratio(found: float, missed: float, spurious: float) -> float | None:
    total = found + missed + spurious
    return float(found / total) if total else None


def _mean(values: dict[str, float | None]) -> float | None:
    known = [value for value in values.values() if value is not None]
    return sum(known) / len(known) if known else None


def evaluate_files(
    truth_dir: Path,
    predicted_dir: Path,
    workers: int | None = 1,
    strict: bool = False,
    split: str | None = None,
) -> CityscapesMiou:
    """IoU of semantic predictions in Cityscapes' format for test servers.

    Args:
        truth_dir: folder with `*_gtFine_labelIds.png` and `*_gtFine_instanceIds.png` at any depth.
        predicted_dir: folder with `<city>_<sequence>_<frame>*.png` of label ids 0..33 at any depth.
        workers: processes; None: as many as cores and memory allow.
        strict: reject predictions of other frames instead of warning.
        split: its name for the provenance; None: the name of `truth_dir`.

    Raises:
        InputError: frames without prediction; corrupt or other PNGs, different sizes, unknown labels.
    """
    warnings = InputWarnings()
    frames, num_unmatched = find_frames(truth_dir, predicted_dir, "_gtFine_labelIds.png", ".png")
    if num_unmatched:
        warnings.add(
            "predictions: frames that are not in the ground truth are ignored", f"{num_unmatched} of them"
        )
    images = [LabelFiles(frame.name, frame.truth, frame.predicted) for frame in frames]
    results = each_image(_count, images, workers, warnings, strict)
    confusions = [result.confusion for result in results]
    categories = [CategoryFacts(label.id, label.name, label.has_instances) for label in CLASSES]
    names = [frame.name for frame in frames]
    pixels = collect(categories, names, [_pixel_counts(c) for c in confusions], warnings.lines())
    truth, predicted = (
        files_digest(None, (one for result in results for one in result.digests[side])) for side in (0, 1)
    )
    name = split or Path(truth_dir).resolve().name
    provenance = Provenance(EVALUATOR, VERSION, PROTOCOL, name, len(frames), truth, predicted)
    return CityscapesMiou(
        MiouResult(pixels.categories, pixels.image_ids, pixels.per_image, pixels.warnings, provenance),
        np.sum(confusions, axis=0),
        np.sum([result.found for result in results], axis=0),
        np.sum([result.missed for result in results], axis=0),
        {c: sum(result.category_found[c] for result in results) for c in _INSTANCE_CATEGORIES},
        {c: sum(result.category_missed[c] for result in results) for c in _INSTANCE_CATEGORIES},
    )


@dataclass(frozen=True)
class _FrameCounts:
    confusion: NDArray[np.int64]
    found: NDArray[np.float64]
    missed: NDArray[np.float64]
    category_found: dict[str, float]
    category_missed: dict[str, float]
    digests: tuple[Digests, Digests]


def _count(files: LabelFiles, _: InputWarnings) -> _FrameCounts:
    truth, truth_digest = read_labels(files.truth, files.name, "labelIds PNG")
    instance_path = files.truth.with_name(f"{files.name}_gtFine_instanceIds{files.truth.suffix}")
    instances, instance_digest = read_labels(instance_path, files.name, "instanceIds PNG")
    predicted, predicted_digest = read_labels(files.predicted, files.name, "predicted PNG")
    pairs = count_labels(truth, predicted, files)
    known_labels(pairs.truth, range(len(LABELS)), files.truth, files.name)
    known_labels(pairs.predicted, range(len(LABELS)), files.predicted, files.name)
    confusion = np.zeros((len(LABELS), len(LABELS)), np.int64)
    confusion[pairs.truth, pairs.predicted] = pairs.pixels

    pairs = count_labels(instances, predicted, files)
    found, missed = np.zeros(len(LABELS)), np.zeros(len(LABELS))
    category_found, category_missed = (dict.fromkeys(_INSTANCE_CATEGORIES, 0.0) for _ in range(2))
    for number in np.unique(pairs.truth[pairs.truth > 1000]).tolist():
        if number // 1000 >= len(LABELS):
            raise InputError(f"{instance_path}: image {files.name}: instance {number} has an unknown label")
        label = LABELS[number // 1000]
        if label.ignored or label.average_size is None:
            continue
        chosen = pairs.truth == number
        guesses, pixels = pairs.predicted[chosen], pairs.pixels[chosen]
        weight = label.average_size / pixels.sum()
        right = float(pixels[guesses == label.id].sum())
        found[label.id] += weight * right
        missed[label.id] += weight * (pixels.sum() - right)
        if label.category in _INSTANCE_CATEGORIES:
            right = float(pixels[np.isin(guesses, _INSTANCE_CATEGORIES[label.category])].sum())
            category_found[label.category] += weight * right
            category_missed[label.category] += weight * (pixels.sum() - right)
    digests = ([truth_digest, instance_digest], [predicted_digest])
    return _FrameCounts(confusion, found, missed, category_found, category_missed, digests)


def _pixel_counts(confusion: NDArray[np.int64]) -> PixelCounts:
    """Counts [C] of one image's confusion [L, L]; a predicted ignored label is a miss only."""
    counted = confusion[_COUNTED].astype(np.float64)
    return PixelCounts(
        intersection=confusion[_IDS, _IDS].astype(np.float64),
        truth=counted.sum(1),
        predicted=counted.sum(0)[_IDS],
    )
