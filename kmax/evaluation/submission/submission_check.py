"""What is wrong with predictions that are to be submitted: every fault, before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kmax.config import Run
from kmax.data.datasets import open_prepared
from kmax.data.formats.coco_panoptic import Image
from kmax.data.formats.png import decode_ids, decode_labels, open_png
from kmax.data.image_list import val_images
from kmax.errors import InputError
from kmax.evaluation.cityscapes.cityscapes_files import Frame, frame_of
from kmax.evaluation.cityscapes.cityscapes_instances import read_lines
from kmax.evaluation.coco.coco_detections import read_detections
from kmax.evaluation.panoptic.panoptic_files import Oddities, read_annotations
from kmax.evaluation.semantic.label_maps import each, known_labels
from kmax.runs.families import location


@dataclass(frozen=True)
class Predicted:
    """One image of the split and its panoptic prediction.

    Attributes:
        png: file name of the image with the suffix of PNGs, below the folders of predictions.
        map: its panoptic PNG.
        segments: as the JSON lists them.
    """

    image: Image
    png: Path
    map: Path
    segments: list[dict[str, Any]]


def require_whole_split(run: Run, folder: Path) -> list[Predicted]:
    """The panoptic predictions of all images of the split, as their JSON tells them.

    Args:
        run: on the split that is to be submitted.
        folder: of its predictions.

    Raises:
        InputError: there are none, the JSON is damaged, images are missing or are of another split.
    """
    path = folder / "panoptic.json"
    if not path.exists():
        raise InputError(f"{path}: not found; make the predictions again")
    if run.data.val_images is not None:
        raise InputError(f"{location(run.run)}.data.val_images: a test server wants the whole split")
    images = val_images(open_prepared(run.data.dataset), run.data)
    found = {entry["image_id"]: entry for entry in read_annotations(path)}
    where = f"{run.data.dataset}/{run.data.val_split}"
    faults = [
        f"{path}: image {image.id} ({image.file_name}) of {where} has no prediction"
        for image in images
        if image.id not in found
    ]
    strangers = found.keys() - {image.id for image in images}
    if strangers:
        first = min(strangers, key=str)
        faults.append(f"{path}: {len(strangers)} predictions of images that {where} lacks, such as {first}")
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
    """Refuse panoptic PNGs that are missing, damaged, of another size, or whose ids are not those listed."""
    _raise(each(_check_map, predicted, workers=None)[1])


def require_sound_labels(
    run: Run, folder: Path, predicted: Sequence[Predicted], known: Sequence[int]
) -> list[Path]:
    """The label PNGs of all images, if none is missing, damaged, of another size, or has other labels."""
    folder = folder / "semantic"
    _require_made(folder, run, "predict.semantic is true")
    results, faults = each(partial(_check_labels, folder=folder, known=known), predicted, workers=None)
    _raise(faults)
    return results


def require_sound_detections(run: Run, folder: Path, predicted: Sequence[Predicted]) -> Path:
    """The JSON of instances, if each detection has a sound mask and score."""
    path = folder / "instances.json"
    things = [c for c in open_prepared(run.data.dataset).categories if c.isthing]
    images = [{"id": o.image.id, "height": o.image.height, "width": o.image.width} for o in predicted]
    oddities = Oddities()
    _require_made(path, run, "predict.instances is coco")
    read_detections(path, {"images": images, "categories": [{"id": c.id} for c in things]}, "segm", oddities)
    _raise(oddities.faults())
    return path


def require_sound_frames(run: Run, folder: Path, predicted: Sequence[Predicted]) -> list[Path]:
    """Text files and masks of all frames, if they are sound."""
    folder = folder / "instances"
    _require_made(folder, run, "predict.instances is cityscapes")
    results, faults = each(partial(_check_frame, folder=folder), predicted, workers=None)
    _raise(faults)
    return [path for paths_of_frame in results for path in paths_of_frame]


def _check_map(one: Predicted) -> None:
    png = open_png(one.map, f"image {one.image.id}: panoptic PNG")
    _require_size(png.size, one, one.map)
    in_map = set(np.unique(decode_ids(png)).tolist()) - {0}
    listed = {segment["id"] for segment in one.segments}
    if in_map != listed:
        first = min(in_map ^ listed)
        only = "PNG" if first in in_map else "JSON"
        raise InputError(f"{one.map}: image {one.image.id}: segment {first} is in the {only} only")


def _check_labels(one: Predicted, folder: Path, known: Sequence[int]) -> Path:
    path = folder / one.png
    png = open_png(path, f"image {one.image.id}: label PNG")
    _require_size(png.size, one, path)
    found = np.unique(decode_labels(png)).astype(np.int64)
    known_labels(found, known, path, str(one.image.id))
    return path


def _check_frame(one: Predicted, folder: Path) -> list[Path]:
    text = folder / one.png.with_suffix(".txt")
    oddities = Oddities()
    lines, _, faults = read_lines(Frame(frame_of(text.stem), text, text), folder, oddities)
    for path in lines:
        try:
            _require_size(open_png(path, f"image {one.image.id}: mask").size, one, path)
        except InputError as error:
            faults.extend(error.faults)
    _raise([*faults, *oddities.faults()])
    return [text, *lines]


def _require_size(size: str, one: Predicted, path: Path) -> None:
    wanted = f"{one.image.width}x{one.image.height}"
    if size != wanted:
        raise InputError(f"{path}: image {one.image.id}: {size} pixels, but the image has {wanted}")


def _require_made(path: Path, run: Run, when: str) -> None:
    if not path.exists():
        raise InputError(f"{path}: not found; predictions have it where {when} in {location(run.run)}")


def _raise(faults: list[str]) -> None:
    if faults:
        raise InputError(faults)
