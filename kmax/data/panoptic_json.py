"""Reading a panoptic JSON: what is sound in it, and every fault as one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kmax.data.panoptic import Annotation, Image, ImageId, JsonCategory, PanopticJson, Segment
from kmax.errors import InputError
from kmax.files import read_json

Entry = dict[str, Any]


def parse_panoptic_json(path: Path) -> tuple[PanopticJson, list[str]]:
    """Read a panoptic JSON; return what is sound in it, and every fault as one line.

    Raises:
        InputError: the file is missing or not JSON.
    """
    value = read_json(path, "panoptic JSON")
    if not isinstance(value, dict):
        return PanopticJson(path, [], [], []), [f"{path}: not a JSON object"]
    faults: list[str] = []
    categories = _categories(_entries(value, "categories", path, faults), faults)
    images = _images(_entries(value, "images", path, faults), faults)
    annotations = _annotations(_entries(value, "annotations", path, faults), images, path, faults)
    faults.extend(
        f"{path}: image {annotation.image_id}: segment {segment.id}: unknown category {segment.category_id}"
        for annotation in annotations.values()
        for segment in annotation.segments
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


def _entries(value: dict[str, Any], key: str, path: Path, faults: list[str]) -> list[tuple[str, Entry]]:
    """The objects of one of the lists, each with the words that tell where it stands."""
    found = value.get(key)
    if not isinstance(found, list):
        faults.append(f"{path}: '{key}' is missing or not a list")
        return []
    named = [(f"{path}: {key}[{i}]", entry) for i, entry in enumerate(found)]
    faults.extend(f"{where} is not an object" for where, entry in named if not isinstance(entry, dict))
    return [(where, entry) for where, entry in named if isinstance(entry, dict)]


def _categories(entries: list[tuple[str, Entry]], faults: list[str]) -> dict[int, JsonCategory]:
    categories: dict[int, JsonCategory] = {}
    for where, entry in entries:
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
    return categories


def _images(entries: list[tuple[str, Entry]], faults: list[str]) -> dict[ImageId, Image]:
    images: dict[ImageId, Image] = {}
    file_of: dict[Path, str] = {}  # by name without suffix: predictions are named so
    for where, entry in entries:
        if not _has(entry, {"id": (int, str), "file_name": str, "width": int, "height": int}, where, faults):
            continue
        image = Image(entry["id"], entry["file_name"], entry["width"], entry["height"])
        if image.id in images:
            faults.append(f"{where}: image id {image.id} occurs twice")
        elif not _is_inside(image.file_name):
            faults.append(f"{where}: file_name {image.file_name!r} leaves the image folder")
        elif image.width < 1 or image.height < 1:
            faults.append(f"{where}: image {image.file_name} is empty: {image.width}x{image.height}")
        elif (stem := Path(image.file_name).with_suffix("")) not in file_of:
            images[image.id] = image
            file_of[stem] = image.file_name
        elif image.file_name == file_of[stem]:
            faults.append(f"{where}: image file {image.file_name} occurs twice")
        else:
            faults.append(
                f"{where}: image file {image.file_name}: its predictions would overwrite those of "
                f"{file_of[stem]}; rename one of them"
            )
    return images


def _annotations(
    entries: list[tuple[str, Entry]], images: dict[ImageId, Image], path: Path, faults: list[str]
) -> dict[ImageId, Annotation]:
    annotations: dict[ImageId, Annotation] = {}
    pngs: set[str] = set()
    for where, entry in entries:
        wanted = {"image_id": (int, str), "file_name": str, "segments_info": list}
        if not _has(entry, wanted, where, faults):
            continue
        image_id, file_name = entry["image_id"], entry["file_name"]
        if image_id not in images:
            faults.append(f"{where}: annotation of unknown image {image_id}")
        elif image_id in annotations:
            faults.append(f"{where}: image {image_id} is annotated twice")
        elif file_name in pngs:
            faults.append(f"{where}: panoptic PNG {file_name} belongs to two images")
        elif not _is_inside(file_name):
            faults.append(f"{where}: file_name {file_name!r} leaves the panoptic folder")
        else:
            segments = _segments(entry["segments_info"], f"{path}: image {image_id}", faults)
            annotations[image_id] = Annotation(image_id, file_name, segments)
            pngs.add(file_name)
    return annotations


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


def _has(entry: Entry, wanted: dict[str, Any], where: str, faults: list[str]) -> bool:
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
    return bool(path.name) and not path.is_absolute() and ".." not in path.parts
