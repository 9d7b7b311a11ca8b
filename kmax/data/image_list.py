"""The images of a split, with or without annotation, in the order in which they are predicted."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kmax.config import Data
from kmax.data.datasets import Prepared, UnannotatedImages
from kmax.data.faults import FaultKind, Faults
from kmax.data.formats.coco_json import read_header
from kmax.data.formats.coco_panoptic import Annotation, Image, select_images
from kmax.data.formats.coco_panoptic_json import read_panoptic_json
from kmax.data.formats.image_file import UnreadableImageError, read_size
from kmax.data.layouts.semantic_masks import IMAGES
from kmax.errors import InputError
from kmax.folders import is_utf8, list_files


@dataclass(frozen=True)
class ValSplit:
    """The images of a split that are predicted.

    Attributes:
        images: in the order of the dataset.
        annotations: of the images, in the same order; None if the split has no annotation.
    """

    images: list[Image]
    annotations: list[Annotation] | None


def read_val_split(prepared: Prepared, data: Data) -> ValSplit:
    """The images that `data` selects, and their annotations, from one parse of the split's JSON.

    Raises:
        InputError: unknown split or listed image (suggests the nearest name), or an invalid list.
    """
    split = prepared.images_of(data.val_split)
    where = f"data.val_images ({data.dataset}/{data.val_split})"
    if isinstance(split, UnannotatedImages):
        return ValSplit(select_images(_unannotated(split), data.val_images, where), None)
    content = read_panoptic_json(split.panoptic_json)
    images = select_images(content.images, data.val_images, where)
    annotation_of = {annotation.image_id: annotation for annotation in content.annotations}
    return ValSplit(images, [annotation_of[image.id] for image in images])


def val_images(prepared: Prepared, data: Data) -> list[Image]:
    """The images of `read_val_split`."""
    return read_val_split(prepared, data).images


def _unannotated(split: UnannotatedImages) -> list[Image]:
    faults = Faults()
    if split.image_info is None:
        split.require_images()
        images = _in_folder(split.images_dir, faults)
    else:
        # Its categories, which lack `isthing`, are not used.
        header = read_header(split.image_info, "list of images", faults, isthing=True)
        images = list(header.images.values())
    if faults.count():
        raise InputError(faults.lines())
    if not images:
        raise InputError(f"{split.image_info or split.images_dir}: no images")
    return images


def _in_folder(folder: Path, faults: Faults) -> list[Image]:
    """All images below a folder, by name, with the sizes in their headers; ids are names without suffix."""
    images: dict[str, Image] = {}
    found = list_files(folder, IMAGES, "folder of images")
    found.warn()
    for name in sorted(found.names, key=lambda name: PurePosixPath(name).parts):
        path = folder / name
        key = os.path.splitext(name)[0]
        if not is_utf8(name):
            faults.add(FaultKind.UNUSABLE_NAME, f"{path}: the name is not valid UTF-8; rename the file")
            continue
        if key in images:
            other = images[key].file_name
            reason = f"its predictions would overwrite those of {other}; rename one of them"
            faults.add(FaultKind.DUPLICATE, f"{path}: {reason}")
            continue
        try:
            images[key] = Image(key, name, *read_size(path))
        except UnreadableImageError as error:
            faults.add(FaultKind.UNREADABLE, str(error))
    return list(images.values())
