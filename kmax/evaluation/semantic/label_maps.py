"""Mean IoU of label PNGs: one file per image, whose pixels are classes.

Ground truth and predictions are read and compared image by image.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kmax.data.formats.coco_panoptic import CategoryFacts
from kmax.data.formats.png import decode_labels, open_png
from kmax.errors import InputError, InputWarnings
from kmax.evaluation.panoptic.pairs import Pairs, count_pairs
from kmax.evaluation.score_provenance import Provenance, files_digest
from kmax.evaluation.semantic.miou import MiouResult, PixelCounts, collect
from kmax.evaluation.workers import each_image
from kmax.evaluator_version import VERSION
from kmax.folders import list_files

LabelMap = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.int32]
Digests = list[tuple[str, str]]
ADE20K_CLASSES = 150
ADE20K_EVALUATOR = "kmax mean IoU of label maps (ADE20K: 0 is unlabelled)"


@dataclass(frozen=True)
class LabelFiles:
    """Ground truth and predicted PNG of one image."""

    name: str
    truth: Path
    predicted: Path


def read_labels(path: Path, name: str, what: str) -> tuple[LabelMap, tuple[str, str]]:
    """Pixels [H, W] of a label PNG, and its name and SHA-256.

    Raises:
        InputError: missing, corrupt, or not of one channel.
    """
    png = open_png(path, f"image {name}: {what}")
    return decode_labels(png), (path.name, png.sha256)


def count_labels(truth: LabelMap, predicted: LabelMap, files: LabelFiles) -> Pairs:
    """Pixels per pair of labels.

    Raises:
        InputError: the sizes differ.
    """
    if truth.shape != predicted.shape:
        raise InputError(
            f"{files.predicted}: image {files.name}: {predicted.shape[1]}x{predicted.shape[0]} pixels, "
            f"but the ground truth has {truth.shape[1]}x{truth.shape[0]}"
        )
    return count_pairs(truth, predicted)


def known_labels(labels: NDArray[np.int64], known: Iterable[int], path: Path, name: str) -> None:
    """Reject labels that a map may not have.

    Raises:
        InputError: naming the image and each label.
    """
    unknown = sorted(set(labels.tolist()) - set(known))
    if unknown:
        raise InputError([f"{path}: image {name}: unknown label {label}" for label in unknown])


def evaluate_ade20k(
    truth_dir: Path,
    predicted_dir: Path,
    workers: int | None = 1,
    strict: bool = False,
    split: str | None = None,
) -> MiouResult:
    """Mean IoU of ADE20K's scene parsing benchmark.

    Args:
        truth_dir: PNGs of 0 (unlabelled) and classes 1..150, such as `annotations/validation`.
        predicted_dir: PNGs of the same names, of classes 0..149.
        workers: processes; None: as many as cores and memory allow.
        strict: reject predictions of other images instead of warning.
        split: its name for the provenance; None: the name of `truth_dir`.

    Raises:
        InputError: a missing folder or file, corrupt or other PNGs, different sizes, unknown classes.
    """
    warnings = InputWarnings()
    truths, predictions = _label_pngs(truth_dir, "ground truth"), _label_pngs(predicted_dir, "prediction")
    if not truths:
        raise InputError(f"{truth_dir}: no ground truth: no PNG files")
    others = predictions.keys() - truths.keys()
    if others:
        warnings.add(
            "predictions: images that are not in the ground truth are ignored", f"{len(others)} of them"
        )
    images = [
        LabelFiles(stem, truth_dir / name, predicted_dir / predictions.get(stem, f"{stem}.png"))
        for stem, name in sorted(truths.items(), key=operator.itemgetter(1))
    ]
    results = each_image(_count_ade20k, images, workers, warnings, strict)
    categories = [CategoryFacts(index, str(index), False) for index in range(ADE20K_CLASSES)]
    counts = [count for count, _ in results]
    result = collect(categories, [image.name for image in images], counts, warnings.lines())
    truth, predicted = (files_digest(None, (digests[side] for _, digests in results)) for side in (0, 1))
    provenance = Provenance(
        ADE20K_EVALUATOR,
        VERSION,
        "150 classes, unlabelled pixels left out",
        split or Path(truth_dir).resolve().name,
        len(images),
        truth,
        predicted,
    )
    return MiouResult(result.categories, result.image_ids, result.per_image, result.warnings, provenance)


def _label_pngs(folder: Path, what: str) -> dict[str, str]:
    """Names of the label PNGs directly in a folder, by name without suffix."""
    found = list_files(folder, {".png"}, f"folder of the {what}s", deep=False)
    found.warn()
    return found.one_by_stem(what)


def _count_ade20k(files: LabelFiles, _: InputWarnings) -> tuple[PixelCounts, Digests]:
    truth, truth_digest = read_labels(files.truth, files.name, "ground truth PNG")
    predicted, predicted_digest = read_labels(files.predicted, files.name, "predicted PNG")
    pairs = count_labels(truth, predicted, files)
    known_labels(pairs.truth, range(ADE20K_CLASSES + 1), files.truth, files.name)
    known_labels(pairs.predicted, range(ADE20K_CLASSES), files.predicted, files.name)
    labelled = pairs.truth > 0
    classes, guesses, pixels = pairs.truth[labelled] - 1, pairs.predicted[labelled], pairs.pixels[labelled]

    def total(labels: NDArray[np.int64], weights: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.bincount(labels, weights, ADE20K_CLASSES).astype(np.float64)

    right = classes == guesses
    counts = PixelCounts(total(classes[right], pixels[right]), total(classes, pixels), total(guesses, pixels))
    return counts, [truth_digest, predicted_digest]
