"""COCO panoptic format: a PNG of segment ids per image, and one JSON that says what each id is.

The id of a pixel is R + 256 G + 65536 B; 0 is void (no label).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from kmax.errors import InputError, unknown_name
from kmax.files import atomic_path, read_json

VOID_ID = 0
ImageId = int | str
IdMap = NDArray[np.int32]


@dataclass(frozen=True)
class Image:
    """One image; sizes in pixels."""

    id: ImageId
    file_name: str
    width: int
    height: int


@dataclass(frozen=True)
class Segment:
    """One segment of one image; `bbox` is (x, y, width, height) in pixels."""

    id: int
    category_id: int
    area: int
    bbox: tuple[int, int, int, int]
    iscrowd: bool


@dataclass(frozen=True)
class Annotation:
    """The segments of one image; `file_name` is the PNG's."""

    image_id: ImageId
    file_name: str
    segments: list[Segment]


@dataclass(frozen=True)
class JsonCategory:
    """A category as the JSON lists it; the official release has no colours."""

    id: int
    name: str
    isthing: bool
    color: tuple[int, int, int] | None


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
    rgb = _read_pixels(path, "panoptic PNG")
    if rgb is None:
        raise InputError(f"{path}: panoptic PNG is not 8-bit RGB; segment ids need three channels")
    ids = rgb[..., 2].astype(np.int32)
    for channel in (1, 0):
        ids <<= 8
        ids |= rgb[..., channel]
    return ids


def map_to_rgb(ids: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """The RGB pixels [H, W, 3] that hold segment ids [H, W] (0 .. 2**24 - 1)."""
    if ids.size and (ids.min() < 0 or ids.max() >= 2**24):
        raise ValueError(f"segment ids must lie in 0..{2**24 - 1}")
    return np.stack([ids & 255, (ids >> 8) & 255, (ids >> 16) & 255], axis=-1).astype(np.uint8)


def write_map(path: Path, ids: NDArray[np.integer[Any]]) -> None:
    """Write segment ids [H, W] as a panoptic PNG, atomically."""
    rgb = map_to_rgb(ids)
    with atomic_path(path) as temporary:
        PillowImage.fromarray(rgb).save(temporary, format="PNG")


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image file as uint8 RGB [H, W, 3]; grey and palette images are converted.

    Raises:
        InputError: missing or truncated.
    """
    rgb = _read_pixels(path, "image", convert=True)
    assert rgb is not None
    return rgb


def _read_pixels(path: Path, what: str, convert: bool = False) -> NDArray[np.uint8] | None:
    """The RGB pixels of a file; None when it is not RGB and `convert` is false."""
    try:
        with PillowImage.open(path) as image:
            if not convert and image.mode != "RGB":
                return None
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise InputError(f"{path}: {what} not found") from None
    except (OSError, SyntaxError, ValueError, EOFError, PillowImage.DecompressionBombError) as error:
        raise InputError(f"{path}: {what} cannot be read: {error}") from error


def parse_panoptic_json(path: Path) -> tuple[PanopticJson, list[str]]:
    """Read a panoptic JSON; return what is sound in it, and every fault as one line.

    Raises:
        InputError: the file is missing or not JSON.
    """
    value = read_json(path, "panoptic JSON")
    faults: list[str] = []
    if not isinstance(value, dict):
        return PanopticJson(path, [], [], []), [f"{path}: not a JSON object"]

    def entries(key: str) -> list[dict[str, Any]]:
        found = value.get(key)
        if not isinstance(found, list):
            faults.append(f"{path}: '{key}' is missing or not a list")
            return []
        faults.extend(
            f"{path}: {key}[{i}] is not an object" for i, e in enumerate(found) if not isinstance(e, dict)
        )
        return [entry for entry in found if isinstance(entry, dict)]

    categories: dict[int, JsonCategory] = {}
    for i, entry in enumerate(entries("categories")):
        where = f"{path}: categories[{i}]"
        if not _has(entry, {"id": int, "name": str, "isthing": (int, bool)}, where, faults):
            continue
        if entry["id"] in categories:
            faults.append(f"{where}: category id {entry['id']} occurs twice")
            continue
        color = entry.get("color")
        if color is not None and not _is_color(color):
            faults.append(f"{where}: color is not three numbers 0..255")
            color = None
        categories[entry["id"]] = JsonCategory(
            entry["id"], entry["name"], bool(entry["isthing"]), tuple(color) if color else None
        )
    images: dict[ImageId, Image] = {}
    names: set[str] = set()
    for i, entry in enumerate(entries("images")):
        where = f"{path}: images[{i}]"
        if not _has(entry, {"id": (int, str), "file_name": str, "width": int, "height": int}, where, faults):
            continue
        image = Image(entry["id"], entry["file_name"], entry["width"], entry["height"])
        if image.id in images:
            faults.append(f"{where}: image id {image.id} occurs twice")
        elif image.file_name in names:
            faults.append(f"{where}: image file {image.file_name} occurs twice")
        elif not _is_inside(image.file_name):
            faults.append(f"{where}: file_name {image.file_name!r} leaves the image folder")
        elif image.width < 1 or image.height < 1:
            faults.append(f"{where}: image {image.file_name} is empty: {image.width}x{image.height}")
        else:
            images[image.id] = image
            names.add(image.file_name)
    annotations: dict[ImageId, Annotation] = {}
    pngs: set[str] = set()
    for i, entry in enumerate(entries("annotations")):
        where = f"{path}: annotations[{i}]"
        wanted = {"image_id": (int, str), "file_name": str, "segments_info": list}
        if not _has(entry, wanted, where, faults):
            continue
        if entry["image_id"] not in images:
            faults.append(f"{where}: annotation of unknown image {entry['image_id']}")
        elif entry["image_id"] in annotations:
            faults.append(f"{where}: image {entry['image_id']} is annotated twice")
        elif entry["file_name"] in pngs:
            faults.append(f"{where}: panoptic PNG {entry['file_name']} belongs to two images")
        elif not _is_inside(entry["file_name"]):
            faults.append(f"{where}: file_name {entry['file_name']!r} leaves the panoptic folder")
        else:
            segments = _segments(entry["segments_info"], f"{path}: image {entry['image_id']}", faults)
            annotations[entry["image_id"]] = Annotation(entry["image_id"], entry["file_name"], segments)
            pngs.add(entry["file_name"])
            faults.extend(
                f"{path}: image {entry['image_id']}: segment {segment.id}: unknown category "
                f"{segment.category_id}"
                for segment in segments
                if segment.category_id not in categories
            )
    faults.extend(
        f"{path}: image {image.id} ({image.file_name}) has no annotation"
        for image in images.values()
        if image.id not in annotations
    )
    kept = [image for image in images.values() if image.id in annotations]
    return PanopticJson(path, kept, [annotations[i.id] for i in kept], list(categories.values())), faults


def read_panoptic_json(path: Path) -> PanopticJson:
    """Read and validate a panoptic JSON.

    Raises:
        InputError: missing, not JSON, or any fault inside (all of them, one line each).
    """
    content, faults = parse_panoptic_json(path)
    if faults:
        raise InputError(faults)
    return content


def select_images(images: list[Image], names: list[str] | None, where: str) -> list[Image]:
    """The images whose file names are listed, in the order of the dataset; all where `names` is None.

    Args:
        where: names the list in the error.

    Raises:
        InputError: a listed image is not in the dataset (with the nearest name), or none is left.
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


def _segments(entries: list[Any], where: str, faults: list[str]) -> list[Segment]:
    segments: dict[int, Segment] = {}
    for i, entry in enumerate(entries):
        here = f"{where}: segments_info[{i}]"
        if not isinstance(entry, dict):
            faults.append(f"{here} is not an object")
            continue
        if not _has(entry, {"id": int, "category_id": int, "area": int, "bbox": list}, here, faults):
            continue
        if not 0 < entry["id"] < 2**24:
            faults.append(f"{here}: segment id {entry['id']} is not in 1..{2**24 - 1}")
        elif entry["id"] in segments:
            faults.append(f"{here}: segment id {entry['id']} occurs twice")
        elif len(entry["bbox"]) != 4 or not all(isinstance(v, int) for v in entry["bbox"]):
            faults.append(f"{here}: bbox is not four integers")
        elif entry.get("iscrowd", 0) not in (0, 1):
            faults.append(f"{here}: iscrowd is neither 0 nor 1")
        else:
            segments[entry["id"]] = Segment(
                entry["id"],
                entry["category_id"],
                entry["area"],
                tuple(entry["bbox"]),
                bool(entry.get("iscrowd", 0)),
            )
    return list(segments.values())


def _has(entry: dict[str, Any], wanted: dict[str, Any], where: str, faults: list[str]) -> bool:
    """Whether all wanted keys are there with the wanted types; adds a fault for each that is not."""
    before = len(faults)
    for key, kind in wanted.items():
        if key not in entry:
            faults.append(f"{where}: '{key}' is missing")
        elif not isinstance(entry[key], kind) or (isinstance(entry[key], bool) and kind is int):
            faults.append(f"{where}: '{key}' has the wrong type ({type(entry[key]).__name__})")
    return len(faults) == before


def _is_color(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) == 3 and all(type(v) is int and 0 <= v <= 255 for v in value)
    )


def _is_inside(name: str) -> bool:
    path = Path(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts
