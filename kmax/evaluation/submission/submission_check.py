"""Checks of predictions before they are submitted; every fault is reported before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kmax.config import Run
from kmax.data.datasets import open_prepared
from kmax.data.formats.coco_instance_json import read_detections
from kmax.data.formats.coco_panoptic import Image
from kmax.data.formats.coco_panoptic_json import read_predictions
from kmax.data.formats.png import decode_ids, decode_labels, open_png
from kmax.data.image_list import val_images
from kmax.errors import InputError, InputWarnings
from kmax.evaluation.cityscapes.cityscapes_format import Frame, frame_of
from kmax.evaluation.cityscapes.cityscapes_instances import read_lines
from kmax.evaluation.semantic.label_maps import known_labels
from kmax.evaluation.workers import each_image
from kmax.runs.families import location


@dataclass(frozen=True)
class Predicted:
    """One image of the split and its panoptic prediction.

    Attributes:
        png: file name of the image with the suffix `.png`, relative to each folder of predictions.
        map: its panoptic PNG.
        segments: `segments_info` of the JSON.
    """

    image: Image
    png: Path
    map: Path
    segments: list[dict[str, Any]]


def require_whole_split(run: Run, folder: Path) -> list[Predicted]:
    """The panoptic predictions of all images of the split.

    Args:
        run: its val split is the one to submit.
        folder: with its predictions.

    Raises:
        InputError: there are none, the JSON is corrupt, images are missing or belong to another split.
    """
    path = folder / "panoptic.json"
    if not path.exists():
        raise InputError(f"{path}: not found; predict again")
    if run.data.val_images is not None:
        raise InputError(
            f"{location(run.run)}.data.val_images: a test server expects predictions for the whole split"
        )
    images = val_images(open_prepared(run.data.dataset), run.data)
    warnings = InputWarnings()
    found = read_predictions(path, warnings)
    _raise(warnings.faults())
    where = f"{run.data.dataset}/{run.data.val_split}"
    faults = [
        f"{path}: image {image.id} ({image.file_name}) of {where} has no prediction"
        for image in images
        if image.id not in found
    ]
    unexpected = found.keys() - {image.id for image in images}
    if unexpected:
        first = min(unexpected, key=str)
        faults.append(
            f"{path}: {len(unexpected)} predictions for images that are not in {where}, such as {first}"
        )
    if faults:
        raise InputError(faults)
    return [
        Predicted(
            image,
            Path(image.file_name).with_suffix(".png"),
            folder / "panoptic" / found[image.id]["file_name"],
            found[image.id]["segments_info"],
        )
        for image in images
    ]


def require_sound_maps(predicted: Sequence[Predicted]) -> None:
    """Reject panoptic PNGs that are missing, corrupt, of another size, or whose ids differ from the JSON."""
    each_image(_check_map, predicted, workers=None)


def require_valid_labels(
    run: Run, folder: Path, predicted: Sequence[Predicted], known: Sequence[int]
) -> list[Path]:
    """The label PNGs of all images, unless one is missing, corrupt, of another size, or has other labels."""
    folder = folder / "semantic"
    _require_made(folder, run, "predict.semantic is true")
    return each_image(partial(_check_labels, folder=folder, known=known), predicted, workers=None)


def require_valid_detections(run: Run, folder: Path, predicted: Sequence[Predicted]) -> Path:
    """The JSON of instances, if each detection has a valid mask and score."""
    path = folder / "instances.json"
    things = [c for c in open_prepared(run.data.dataset).categories if c.isthing]
    images = [{"id": o.image.id, "height": o.image.height, "width": o.image.width} for o in predicted]
    warnings = InputWarnings()
    _require_made(path, run, "predict.instances is coco")
    read_detections(path, {"images": images, "categories": [{"id": c.id} for c in things]}, "segm", warnings)
    _raise(warnings.faults())
    return path


def require_valid_frames(run: Run, folder: Path, predicted: Sequence[Predicted]) -> list[Path]:
    """Text files and masks of all frames, if they are valid."""
    folder = folder / "instances"
    _require_made(folder, run, "predict.instances is cityscapes")
    results = each_image(partial(_check_frame, folder=folder), predicted, workers=None)
    return [path for paths_of_frame in results for path in paths_of_frame]


def _check_map(one: Predicted, _: InputWarnings) -> None:
    png = open_png(one.map, f"image {one.image.id}: panoptic PNG")
    _require_size(png.size, one, one.map)
    in_map = set(np.unique(decode_ids(png)).tolist()) - {0}
    listed = {segment["id"] for segment in one.segments}
    if in_map != listed:
        first = min(in_map ^ listed)
        only = "PNG" if first in in_map else "JSON"
        raise InputError(f"{one.map}: image {one.image.id}: segment {first} is only in the {only}")


def _check_labels(one: Predicted, _: InputWarnings, folder: Path, known: Sequence[int]) -> Path:
    path = folder / one.png
    png = open_png(path, f"image {one.image.id}: label PNG")
    _require_size(png.size, one, path)
    found = np.unique(decode_labels(png)).astype(np.int64)
    known_labels(found, known, path, str(one.image.id))
    return path


def _check_frame(one: Predicted, warnings: InputWarnings, folder: Path) -> list[Path]:
    text = folder / one.png.with_suffix(".txt")
    lines, _, faults = read_lines(Frame(frame_of(text.stem), text, text), folder, warnings)
    for path in lines:
        try:
            _require_size(open_png(path, f"image {one.image.id}: mask").size, one, path)
        except InputError as error:
            faults.extend(error.faults)
    _raise([*faults, *warnings.faults()])
    return [text, *lines]


def _require_size(size: str, one: Predicted, path: Path) -> None:
    wanted = f"{one.image.width}x{one.image.height}"
    if size != wanted:
        raise InputError(f"{path}: image {one.image.id}: {size} pixels, but the image has {wanted}")


def _require_made(path: Path, run: Run, when: str) -> None:
    if not path.exists():
        raise InputError(f"{path}: not found; it is written only if {when} in {location(run.run)}")


def _raise(faults: list[str]) -> None:
    if faults:
        raise InputError(faults)
