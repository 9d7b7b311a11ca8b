"""COCO panoptic format: a PNG of segment ids per image, and one JSON that describes each segment.

The id of a pixel is R + 256 G + 65536 B; 0 is void (no label).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from kmax.data.formats.image_arrays import decode_jpeg_words
from kmax.data.formats.image_file import load_image, read_image_file
from kmax.data.formats.png import decode_ids, open_png
from kmax.errors import InputError, unknown_name
from kmax.files import atomic_path

VOID_ID = 0
Box = tuple[int, int, int, int]
NO_BOX: Box = (0, 0, 0, 0)
ImageId = int | str
IdMap = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Image:
    """One image; sizes in pixels."""

    id: ImageId
    file_name: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of one image.

    Attributes:
        area: in pixels, as stated in the JSON; that of polygons may have a fraction.
        bbox: (x, y, width, height) in pixels; `NO_BOX` if not given in whole pixels.
    """

    id: int
    category_id: int
    area: float
    bbox: Box
    iscrowd: bool


@dataclass(frozen=True, slots=True)
class Annotation:
    """The segments of one image; `file_name` is the PNG's."""

    image_id: ImageId
    file_name: str
    segments: list[Segment]


@dataclass(frozen=True)
class JsonCategory:
    """A category as listed in the JSON; the official release has no colours."""

    id: int
    name: str
    isthing: bool
    color: tuple[int, int, int] | None


@dataclass(frozen=True)
class CategoryFacts:
    """What the metrics need to know about a category."""

    id: int
    name: str
    isthing: bool


@dataclass(frozen=True)
class PanopticJson:
    """A panoptic JSON file: `annotations` has one entry per image, in the order of `images`."""

    path: Path
    images: list[Image]
    annotations: list[Annotation]
    categories: list[JsonCategory]


def read_map(path: Path) -> IdMap:
    """Read a panoptic PNG as int32 [H, W] of segment ids.

    Raises:
        InputError: missing, truncated, or not an 8-bit RGB image.
    """
    return decode_ids(open_png(path, "panoptic PNG"))


def map_to_rgb(ids: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """The RGB pixels [H, W, 3] that encode segment ids [H, W] (0 .. 2**24 - 1)."""
    if ids.size and (ids.min() < 0 or ids.max() >= 2**24):
        raise ValueError(f"segment ids must be in 0..{2**24 - 1}")
    return np.stack([ids & 255, (ids >> 8) & 255, (ids >> 16) & 255], axis=-1).astype(np.uint8)


def write_map(path: Path, ids: NDArray[np.integer[Any]]) -> None:
    """Write segment ids [H, W] as a panoptic PNG, atomically."""
    with atomic_path(path) as temporary:
        save_map(temporary, ids)


def save_map(path: Path, ids: NDArray[np.integer[Any]]) -> None:
    """As `write_map`, but not atomically."""
    PillowImage.fromarray(map_to_rgb(ids)).save(path, format="PNG")


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image file as uint8 RGB [H, W, 3]; grey and palette images are converted.

    Raises:
        InputError: missing or truncated.
    """
    return load_image(path).rgb()


def read_image_words(path: Path) -> NDArray[np.uint8]:
    """As `read_image`, padded to four bytes per pixel, which are copied as one word: uint8 [H, W, 4]."""
    data = read_image_file(path)
    pixels = decode_jpeg_words(data)
    return load_image(path, data=data).words() if pixels is None else pixels


def select_images(images: list[Image], names: list[str] | None, where: str) -> list[Image]:
    """The images whose file names are listed, in the order of the dataset; all if `names` is None.

    Args:
        where: name of the list in the error.

    Raises:
        InputError: a listed image is not in the dataset (suggests the nearest name), or no image is left.
    """
    if names is not None:
        known = {image.file_name for image in images}
        for name in names:
            if name not in known:
                raise unknown_name("image", name, known, where)
        images = [image for image in images if image.file_name in set(names)]
    if not images:
        raise InputError(f"{where}: no images")
    return images
