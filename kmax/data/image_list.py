"""The images of a split, annotated or not, in the order in which they are predicted."""

from __future__ import annotations

from pathlib import Path

from PIL import Image as PillowImage

from kmax.config import Data
from kmax.data.datasets import Prepared, UnannotatedImages
from kmax.data.faults import FaultKind, Faults
from kmax.data.formats.coco_json import read_header
from kmax.data.formats.coco_panoptic import Image, select_images
from kmax.data.formats.coco_panoptic_json import read_panoptic_json
from kmax.data.formats.png import PILLOW_FAULTS
from kmax.data.layouts.semantic_masks import IMAGES
from kmax.errors import InputError


def val_images(prepared: Prepared, data: Data) -> list[Image]:
    """The images that `data` says are predicted, in the dataset's order.

    Raises:
        InputError: unknown split or listed image (with the nearest name), or a list that is faulty.
    """
    split = prepared.images_of(data.val_split)
    if isinstance(split, UnannotatedImages):
        listed = _listed(split)
    else:
        listed = read_panoptic_json(split.panoptic_json).images
    return select_images(listed, data.val_images, f"data.val_images ({data.dataset}/{data.val_split})")


def _listed(split: UnannotatedImages) -> list[Image]:
    faults = Faults()
    if split.image_info is None:
        split.require_images()
        images = _in_folder(split.images_dir, faults)
    else:
        # Its categories, which do not say what is a thing, are not used.
        header = read_header(split.image_info, "list of images", faults, isthing=True)
        images = list(header.images.values())
    if faults.count():
        raise InputError(faults.lines())
    if not images:
        raise InputError(f"{split.image_info or split.images_dir}: no images")
    return images


def _in_folder(folder: Path, faults: Faults) -> list[Image]:
    """All images below a folder, by name, of the sizes in their headers; an id is a name without suffix."""
    images: dict[str, Image] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.suffix.lower() not in IMAGES or path.name.startswith("."):
            continue
        key = name.with_suffix("").as_posix()
        if key in images:
            other = images[key].file_name
            told = f"its predictions would overwrite those of {other}; rename one of them"
            faults.add(FaultKind.DUPLICATE, f"{path}: {told}")
            continue
        try:
            with PillowImage.open(path) as opened:
                images[key] = Image(key, name.as_posix(), *opened.size)
        except PILLOW_FAULTS as error:
            faults.add(FaultKind.UNREADABLE, f"{path}: image cannot be read: {error}")
    return list(images.values())
