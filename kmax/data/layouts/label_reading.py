"""Reading label PNGs and folders of files, shared by several layouts."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from kmax.data.faults import Fault, FaultKind, Faults
from kmax.data.formats.coco_panoptic import Segment
from kmax.data.formats.png import PILLOW_FAULTS
from kmax.errors import InputError

AreaAndBox = tuple[int, tuple[int, int, int, int]]  # pixels; (x, y, width, height)


def read_png(path: Path, what: str, modes: tuple[str, ...], faults: list[Fault]) -> NDArray[Any] | None:
    """The pixels of a label PNG; None, and a fault, if it is missing, corrupt or of another mode."""
    try:
        with PillowImage.open(path) as image:
            if image.mode in modes:
                return np.asarray(image)
            faults.append((FaultKind.PNG_MODE, f"{path}: {what} is {image.mode}, not {' or '.join(modes)}"))
    except FileNotFoundError:
        faults.append((FaultKind.MISSING, f"{path}: {what} not found"))
    except PILLOW_FAULTS as error:
        faults.append((FaultKind.UNREADABLE, f"{path}: {what} cannot be read: {error}"))
    return None


def has_size(path: Path, what: str, labels: NDArray[Any], size: tuple[int, int], faults: list[Fault]) -> bool:
    """Whether a label map [H, W, ...] has the (width, height) of its image."""
    height, width = labels.shape[:2]
    if (width, height) != size:
        faults.append((FaultKind.SIZE, f"{path}: {what} is {width}x{height}, the image {size[0]}x{size[1]}"))
    return (width, height) == size


def areas_and_boxes(index: NDArray[Any], number: int) -> list[AreaAndBox]:
    """(area, bbox) of the pixels of each value 1..number of a map [H, W]; zeros for values without pixels."""
    from scipy import ndimage  # here: dataset files are read without its 0.3 seconds of import

    areas = np.bincount(index.ravel(), minlength=number + 1)
    boxes = ndimage.find_objects(index, number)
    return [
        (int(areas[i + 1]), (x.start, y.start, x.stop - x.start, y.stop - y.start) if box else (0, 0, 0, 0))
        for i, box in enumerate(boxes)
        for y, x in [box or (slice(0, 0), slice(0, 0))]
    ]


def segment(id: int, category_id: int, measured: AreaAndBox, *, iscrowd: bool = False) -> Segment:
    """A segment of the area and the box that `areas_and_boxes` found."""
    return Segment(id, category_id, measured[0], measured[1], iscrowd)


def images_of_split(names: Iterable[str], split: str, holdout: int | None) -> set[str]:
    """The images of a split: all of them, or its part of a holdout.

    The holdout puts the first image by name, and every `holdout`-th from there, into the split val.
    """
    names = set(names)
    if holdout is None:
        return names
    val = set(sorted(names)[::holdout])
    return val if split == "val" else names - val


def faults_once(faults: Faults, split: str, holdout: int | None) -> Faults:
    """The collector for faults of shared files: with a holdout, both splits read the same files."""
    return Faults() if holdout and split != "train" else faults


def files_in(folder: Path, pattern: str, what: str) -> dict[str, str]:
    """Names of the files in a folder that match a pattern, relative to it, by name without suffix.

    Raises:
        InputError: the folder does not exist.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: {what} not found")
    names = sorted(os.path.relpath(path, folder) for path in folder.glob(pattern))
    return {os.path.splitext(name)[0]: name for name in names if not Path(name).name.startswith(".")}
