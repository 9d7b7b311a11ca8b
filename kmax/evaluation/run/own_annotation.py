"""The annotation by which a dataset's own evaluator judges, where the raw files of the dataset lie.

Like images it is read in place. What was read goes into the metrics as a digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kmax import paths
from kmax.config import Data
from kmax.data.dataset_file import OwnAnnotation, load_dataset, raw_root
from kmax.data.formats.coco_instance_json import read_ground_truth
from kmax.data.formats.coco_panoptic import Image
from kmax.errors import InputError, InputWarnings


def label_folder(data: Data) -> Path:
    """The folder of the val split's label PNGs.

    Raises:
        InputError: the dataset file names none, or it is not there.
    """
    return _require(data, "label_dir")


def instance_json(data: Data) -> Path:
    """COCO's instance JSON of the val split; errors as `label_folder`."""
    return _require(data, "instance_json")


def coco_ground_truth(path: Path, images: Sequence[Image], warnings: InputWarnings) -> dict[str, Any]:
    """The instance JSON, of these images only.

    Raises:
        InputError: damaged, or images that it lacks (another split?).
    """
    truth = read_ground_truth(path, warnings)
    wanted = {image.id for image in images}
    lacking = wanted - {entry["id"] for entry in truth["images"]}
    if lacking:
        first = next(image for image in images if image.id in lacking)
        raise InputError(
            f"{path}: lacks {len(lacking)} of the {len(images)} images, such as {first.id} "
            f"({first.file_name}); is it of another split?"
        )
    return truth | {
        "images": [entry for entry in truth["images"] if entry["id"] in wanted],
        "annotations": [entry for entry in truth["annotations"] if entry["image_id"] in wanted],
    }


def _require(data: Data, kind: str) -> Path:
    dataset = load_dataset(data.dataset)
    file = paths.dataset_file(data.dataset)
    name = getattr(dataset.own_annotation.get(data.val_split, OwnAnnotation()), kind)
    if name is None:
        raise InputError(f"{file}: own_annotation.{data.val_split}.{kind}: not given; evaluation needs it")
    path: Path = raw_root(dataset) / name
    if not path.exists():
        raise InputError(
            f"{path}: not found ({data.dataset}/{data.val_split} is judged by it: own_annotation in {file})"
        )
    return path
