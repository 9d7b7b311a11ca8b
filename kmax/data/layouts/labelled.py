"""What all layouts give: per image one entry, which reads its labels into segments."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from scipy import ndimage

from kmax.config import Category
from kmax.data.faults import Fault, Faults, Kind
from kmax.data.formats.coco_panoptic import IdMap, ImageId, Segment
from kmax.data.formats.png import PILLOW_FAULTS
from kmax.errors import InputError


@dataclass(frozen=True, slots=True)
class Labels:
    """The segments of an image [H, W]: the ids of its pixels, or the panoptic PNG that is to be kept."""

    segments: list[Segment]
    ids: IdMap | None
    png: Path | None = None


Read = Callable[[tuple[int, int], list[Fault]], Labels | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One image and how to read its labels; small, and it can be sent to another process.

    Attributes:
        position: of the image in the split.
        file_name: the image's name below `images_dir`.
        png_name: name of its panoptic PNG.
        label_files: files of this image's labels alone.
        size: (width, height) that the annotation says; None: it says none.
        read: given the image's (width, height), reads the labels and adds faults; None: unreadable.
    """

    position: int
    image_id: ImageId
    file_name: str
    images_dir: Path
    png_name: str
    label_files: tuple[Path, ...]
    size: tuple[int, int] | None
    read: Read


@dataclass(frozen=True)
class Split:
    """The images of a split, one at a time; faults are added while they are read."""

    name: str
    images_dir: str
    total: int
    entries: Iterator[Entry]


class Layout(Protocol):
    """A dataset on disk, checked as it is read."""

    @property
    def categories(self) -> list[Category]:
        """In the order of the network's classes; complete when all splits are open."""

    @property
    def shared_files(self) -> list[Path]:
        """Files that tell of more than one image."""

    def split(self, name: str, faults: Faults) -> Split:
        """Open a split.

        Raises:
            InputError: its annotation is missing or unreadable as a whole.
        """


def read_png(path: Path, what: str, modes: tuple[str, ...], faults: list[Fault]) -> NDArray[Any] | None:
    """The pixels of a label PNG; None, and a fault, where it is missing, damaged or of another form."""
    try:
        with PillowImage.open(path) as image:
            if image.mode in modes:
                return np.asarray(image)
            faults.append((Kind.FORM, f"{path}: {what} is {image.mode}, not {' or '.join(modes)}"))
    except FileNotFoundError:
        faults.append((Kind.MISSING, f"{path}: {what} not found"))
    except PILLOW_FAULTS as error:
        faults.append((Kind.UNREADABLE, f"{path}: {what} cannot be read: {error}"))
    return None


def agrees(path: Path, what: str, labels: NDArray[Any], size: tuple[int, int], faults: list[Fault]) -> bool:
    """Whether a label map [H, W, ...] has the size of its image."""
    height, width = labels.shape[:2]
    if (width, height) != size:
        faults.append((Kind.SIZE, f"{path}: {what} is {width}x{height}, the image {size[0]}x{size[1]}"))
    return (width, height) == size


Measured = tuple[int, tuple[int, int, int, int]]


def measure(index: NDArray[Any], number: int) -> list[Measured]:
    """(area, bbox) of the pixels of each value 1..number of a map [H, W]; (0, ...) where it has none.

    A bbox is (x, y, width, height).
    """
    areas = np.bincount(index.ravel(), minlength=number + 1)
    boxes = ndimage.find_objects(index, number)
    return [
        (int(areas[i + 1]), (x.start, y.start, x.stop - x.start, y.stop - y.start) if box else (0, 0, 0, 0))
        for i, box in enumerate(boxes)
        for y, x in [box or (slice(0, 0), slice(0, 0))]
    ]


def of_split(names: Iterable[str], split: str, holdout: int | None) -> set[str]:
    """The images of a split: all of them, or what a holdout leaves of them.

    The holdout gives the split val the first image by name, and each so-many-th from there.
    """
    names = set(names)
    if holdout is None:
        return names
    val = set(sorted(names)[::holdout])
    return val if split == "val" else names - val


def told_once(faults: Faults, split: str, holdout: int | None) -> Faults:
    """Where faults of the files that splits share go: with a holdout both splits read the same ones."""
    return Faults() if holdout and split != "train" else faults


def files_in(folder: Path, pattern: str, what: str) -> dict[str, str]:
    """Names of the files in a folder that match a pattern, relative to it, by name without suffix.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: {what} not found")
    names = sorted(os.path.relpath(path, folder) for path in folder.glob(pattern))
    return {os.path.splitext(name)[0]: name for name in names if not Path(name).name.startswith(".")}


def segment(id: int, category_id: int, measured: Measured, *, iscrowd: bool = False) -> Segment:
    """A segment of the area and the box that `measure` found."""
    return Segment(id, category_id, measured[0], measured[1], iscrowd)
