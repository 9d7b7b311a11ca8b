"""Files of one image's predictions, in the formats that evaluators and test servers read.

Panoptic maps are COCO panoptic PNGs. Semantic predictions are grey PNGs of category ids (Cityscapes calls
them labelIds). Instances are entries of COCO's JSON of results, with compressed run lengths, or Cityscapes'
text file per frame, a line `mask label confidence` per instance, beside its masks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from kmax.config import Category
from kmax.data.formats.coco_panoptic import ImageId
from kmax.errors import InputError
from kmax.inference.scored_instances import Instance

MASK = 255  # of the pixels of an instance, in Cityscapes' masks
_FRAME = re.compile(r"[^_]+_[^_]+_\d+.*")


def write_labels(path: Path, classes: NDArray[np.int16], categories: Sequence[Category]) -> None:
    """Write contiguous classes [H, W] as a grey PNG of category ids, of 16 bits if an id needs them.

    Raises:
        InputError: an id needs more.
    """
    ids = np.array([category.id for category in categories])
    if ids.max() >= 2**16:
        raise InputError(f"{path}: category id {ids.max()} is too large for a label PNG (0..{2**16 - 1})")
    _write_grey(path, (ids.astype(np.uint8) if ids.max() < 256 else ids.astype(np.uint16))[classes])


def coco_results(
    instances: Sequence[Instance], image_id: ImageId, categories: Sequence[Category]
) -> list[dict[str, Any]]:
    """Entries of COCO's JSON of results. Instances without pixels are omitted, since they cannot match.

    Boxes are omitted: pycocotools computes them, and areas, from the masks.
    """
    from pycocotools import mask as coco_mask

    results = []
    for instance in instances:
        if instance.mask.any():
            encoded = coco_mask.encode(np.asfortranarray(instance.mask, dtype=np.uint8))
            results.append(
                {
                    "image_id": image_id,
                    "category_id": categories[instance.class_index].id,
                    "score": instance.score,
                    "segmentation": {
                        "size": [int(side) for side in encoded["size"]],
                        "counts": encoded["counts"].decode("ascii"),
                    },
                }
            )
    return results


def write_cityscapes_instances(
    path: Path, instances: Sequence[Instance], categories: Sequence[Category]
) -> None:
    """Write the text file `path` and its masks `<stem>_<number>.png`, in the same folder.

    Instances without pixels are omitted, as in Cityscapes' evaluation.
    """
    lines = []
    for number, instance in enumerate(instance for instance in instances if instance.mask.any()):
        mask = path.with_name(f"{path.stem}_{number:03d}.png")
        _write_grey(mask, instance.mask.astype(np.uint8) * MASK)
        lines.append(f"{mask.name} {categories[instance.class_index].id} {instance.score!r}\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), encoding="utf-8")


def check_frame_names(file_names: Sequence[str], where: str) -> None:
    """Reject images whose names Cityscapes' evaluation could not match.

    Args:
        where: the parameter that requires it, for errors.

    Raises:
        InputError: a name is not `<city>_<sequence>_<frame>...`.
    """
    faults = [
        f"{where}: cityscapes: image {name} is not named <city>_<sequence>_<frame>"
        for name in file_names
        if not _FRAME.fullmatch(Path(name).stem)
    ]
    if faults:
        raise InputError(faults)


def _write_grey(path: Path, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(pixels).save(path, format="PNG")
