"""One image, read and checked, from which all metrics of panoptic maps are counted; and counting all images.

Legend of shapes: G P segments of the ground truth and of the prediction of one image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kmax.data.formats.coco_panoptic import ImageId
from kmax.data.formats.png import RGBA, open_png
from kmax.errors import InputError, InputWarnings
from kmax.evaluation.panoptic.pairs import VOID, Pairs, count_png_pairs
from kmax.evaluation.panoptic.panoptic_files import ImagePair, PanopticFiles
from kmax.evaluation.workers import each_image

Counted = TypeVar("Counted")


@dataclass(frozen=True)
class ImageSegments:
    """Pixel counts of the pairs of segments of one image, and the segments of both maps as columns.

    Attributes:
        pairs: over ids of the two maps.
        truth_ids, truth_classes, truth_areas, truth_crowd: [G]; class -1 if its category is unknown; area as
            given in the JSON (nan if it is missing or not a number).
        predicted_ids, predicted_classes: [P].
        sha256: of the two PNG files; empty for maps in memory.
    """

    image_id: ImageId
    pairs: Pairs
    truth_ids: NDArray[np.int64]
    truth_classes: NDArray[np.int64]
    truth_areas: NDArray[np.float64]
    truth_crowd: NDArray[np.bool_]
    predicted_ids: NDArray[np.int64]
    predicted_classes: NDArray[np.int64]
    sha256: tuple[str, str] = ("", "")


def count_images(
    files: PanopticFiles,
    count: Callable[[ImageSegments], Counted],
    workers: int | None = 1,
    strict: bool = False,
) -> list[Counted]:
    """Read each image once and apply `count`; only its results are kept.

    Args:
        count: picklable.
        workers: processes; each holds one image at a time. None: as many as cores and memory allow.
        strict: treat warnings as errors.

    Returns:
        The results in the order of the ground truth. Warnings and digests are added to `files`.

    Raises:
        InputError: the errors of all images.
    """
    classes = {category.id: index for index, category in enumerate(files.categories)}
    one = partial(_count_image, classes=classes, count=count)
    results = each_image(one, files.images, workers, files.warnings, strict)
    files.sha256.extend(sha256 for _, sha256 in results)
    return [counted for counted, _ in results]


def _count_image(
    pair: ImagePair,
    warnings: InputWarnings,
    classes: dict[int, int],
    count: Callable[[ImageSegments], Counted],
) -> tuple[Counted, tuple[str, str]]:
    image = read_pair(pair, classes, warnings)
    return count(image), image.sha256


def read_pair(pair: ImagePair, classes: dict[int, int], warnings: InputWarnings) -> ImageSegments:
    """Read the two maps of one image and check them as the official evaluator does.

    Args:
        classes: category id -> index.

    Raises:
        InputError: unreadable PNG, sizes or ids that disagree, unknown predicted category, missing keys.
    """
    truth, predicted = (
        open_png(path, f"image {pair.image_id}: panoptic PNG")
        for path in (pair.truth_path, pair.predicted_path)
    )
    if truth.size != predicted.size:
        raise InputError(
            f"{pair.predicted_path}: image {pair.image_id}: {predicted.size} "
            f"pixels, but the ground truth has {truth.size}"
        )
    for side, png in (("ground truth", truth), ("predictions", predicted)):
        if png.color_type == RGBA:
            warnings.add(f"{side}: the alpha channel of a PNG is ignored", f"image {pair.image_id}")
    pairs = count_png_pairs(truth, predicted)
    return replace(check_pair(pair, pairs, classes, warnings), sha256=(truth.sha256, predicted.sha256))


def check_pair(
    pair: ImagePair, pairs: Pairs, classes: dict[int, int], warnings: InputWarnings
) -> ImageSegments:
    """Check the segments of one image against the ids in its maps.

    Raises:
        InputError: ids that disagree, unknown predicted category, missing keys.
    """
    faults = _prediction_faults(pair, pairs, classes)
    for segment in pair.truth_segments:
        missing = [key for key in ("category_id", "iscrowd") if key not in segment]
        if not missing and isinstance(segment["category_id"], (list, dict)):
            missing = ["category_id"]
        faults += [
            f"{pair.truth_path}: image {pair.image_id}: ground truth segment {segment['id']} "
            f"(category {segment.get('category_id')!r:.40}): '{key}' is missing in the JSON or not a number"
            for key in missing
        ]
    if faults:
        raise InputError(faults)
    image = ImageSegments(
        pair.image_id,
        pairs,
        np.array([s["id"] for s in pair.truth_segments], np.int64),
        np.array([classes.get(s["category_id"], -1) for s in pair.truth_segments], np.int64),
        np.array([_area(s) for s in pair.truth_segments], np.float64),
        np.array([s["iscrowd"] == 1 for s in pair.truth_segments], np.bool_),
        np.array([s["id"] for s in pair.predicted_segments], np.int64),
        np.array([classes[s["category_id"]] for s in pair.predicted_segments], np.int64),
    )
    _add_warnings(pair, image, warnings)
    return image


def _prediction_faults(pair: ImagePair, pairs: Pairs, classes: dict[int, int]) -> list[str]:
    where = f"{pair.predicted_path}: image {pair.image_id}"
    in_map = set(pairs.predicted.tolist())
    in_json = {segment["id"] for segment in pair.predicted_segments}
    faults = [
        f"{where}: segment {i} is in the PNG but not in the JSON" for i in sorted(in_map - in_json - {VOID})
    ]
    for segment in pair.predicted_segments:
        if segment["id"] not in in_map:
            faults.append(
                f"{where}: segment {segment['id']} (category {segment.get('category_id')}) is in the JSON, "
                "but has no pixels in the PNG"
            )
            continue
        category = segment.get("category_id")
        if isinstance(category, (list, dict)) or category not in classes:
            faults.append(f"{where}: segment {segment['id']}: unknown category {category!r:.40}")
    return faults


def _area(segment: dict[str, Any]) -> float:
    area = segment.get("area")
    if not isinstance(area, (int, float)):
        return np.nan
    try:
        return float(area)
    except OverflowError:
        return np.inf if area > 0 else -np.inf


def _add_warnings(pair: ImagePair, image: ImageSegments, warnings: InputWarnings) -> None:
    here = f"image {pair.image_id}"
    areas = dict.fromkeys(image.truth_ids.tolist(), 0)
    for number, pixels in zip(image.pairs.truth.tolist(), image.pairs.pixels.tolist(), strict=True):
        if number in areas:
            areas[number] += pixels
        elif number != VOID:
            warnings.add("ground truth: a PNG id without JSON entry", f"{here} segment {number}")
    for segment, area in zip(pair.truth_segments, image.truth_areas.tolist(), strict=True):
        counted = areas[segment["id"]]
        if counted and counted == area:
            continue
        if not counted:
            kind = "ground truth: a JSON segment without pixels is counted as missed"
        elif np.isnan(area):
            kind = "ground truth: an area is missing or not a number, but no match needs it"
        else:
            kind = "ground truth: the JSON area differs from the number of pixels and is used"
        warnings.add(kind, f"{here} segment {segment['id']} category {segment['category_id']}")
    for segment, index in zip(pair.truth_segments, image.truth_classes.tolist(), strict=True):
        if index < 0:
            warnings.add(
                "ground truth: a segment of an unknown category is ignored",
                f"{here} segment {segment['id']} category {segment['category_id']}",
            )
        if segment["iscrowd"] not in (0, 1):
            warnings.add(
                "ground truth: 'iscrowd' is neither 0 nor 1 and counts as 0",
                f"{here} segment {segment['id']}",
            )
    crowds = image.truth_classes[image.truth_crowd].tolist()
    if len(set(crowds)) < len(crowds):
        warnings.add(
            "ground truth: several crowd segments of one category, only the last suppresses false positives",
            here,
        )
    if VOID in image.predicted_ids.tolist():
        warnings.add("predictions: id 0 is listed, so void is counted as a segment", here)
