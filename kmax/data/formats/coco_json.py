"""What COCO's JSON files have in common: images and categories, and entries that hold what they must."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmax.data.faults import FaultKind, Faults
from kmax.data.formats import json_stream
from kmax.data.formats.coco_panoptic import Image, ImageId, JsonCategory
from kmax.data.formats.png import MAX_PIXELS

Entry = dict[str, Any]


@dataclass(frozen=True)
class Header:
    """What a JSON says before its annotations; only what is sound."""

    path: Path
    images: dict[ImageId, Image]
    categories: dict[int, JsonCategory]


def read_header(path: Path, what: str, faults: Faults, *, isthing: bool | None = None) -> Header:
    """Read images and categories.

    Args:
        what: names the file's role in errors.
        isthing: what a category is that does not say so; None: it must say so.

    Raises:
        InputError: the file is missing or not JSON.
    """
    categories: dict[int, JsonCategory] = {}
    images: dict[ImageId, Image] = {}
    file_of: dict[str, str] = {}  # by name without suffix: predictions are named so
    for key, where, entry in objects(path, what, ("categories", "images"), faults):
        if key == "categories":
            _add_category(entry, where, categories, isthing, faults)
        else:
            _add_image(entry, where, images, file_of, faults)
    return Header(path, images, categories)


def objects(
    path: Path, what: str, wanted: tuple[str, ...], faults: Faults
) -> Iterator[tuple[str, str, Entry]]:
    """(key, the words that tell where it stands, entry) of the lists under the wanted keys."""
    places = dict.fromkeys(wanted, -1)
    lists: set[str] = set()
    for key, entry in json_stream.entries(path, what, set(wanted)):
        if not key:
            faults.add(FaultKind.JSON, f"{path}: not a JSON object")
            return
        if key not in places:
            continue
        if entry is json_stream.EMPTY:
            lists.add(key)
        elif isinstance(entry, dict):
            # A dict in place of a list reads as its only entry, which then lacks all that an entry has.
            lists.add(key)
            places[key] += 1
            yield key, f"{path}: {key}[{places[key]}]", entry
        else:
            places[key] += 1
            faults.add(FaultKind.JSON, f"{path}: {key}[{places[key]}] is not an object")
    for key in wanted:
        if key not in lists:
            faults.add(FaultKind.JSON, f"{path}: '{key}' is missing or not a list")


def _add_category(
    entry: Entry, where: str, categories: dict[int, JsonCategory], isthing: bool | None, faults: Faults
) -> None:
    wanted = {"id": int, "name": str} | ({"isthing": (int, bool)} if isthing is None else {})
    if not has(entry, wanted, where, faults):
        return
    if entry["id"] < 0:
        faults.add(FaultKind.JSON, f"{where}: category id {entry['id']} is below 0")
        return
    if entry["id"] in categories:
        faults.add(FaultKind.DUPLICATE, f"{where}: category id {entry['id']} occurs twice")
        return
    color = entry.get("color")
    if color is not None and not _is_color(color):
        faults.add(FaultKind.JSON, f"{where}: color is not three numbers 0..255")
        color = None
    categories[entry["id"]] = JsonCategory(
        entry["id"], entry["name"], bool(entry.get("isthing", isthing)), tuple(color) if color else None
    )


def _add_image(
    entry: Entry, where: str, images: dict[ImageId, Image], file_of: dict[str, str], faults: Faults
) -> None:
    if not has(entry, {"id": (int, str), "file_name": str, "width": int, "height": int}, where, faults):
        return
    image = Image(entry["id"], entry["file_name"], entry["width"], entry["height"])
    if image.id in images:
        faults.add(FaultKind.DUPLICATE, f"{where}: image id {image.id} occurs twice")
    elif not is_inside(image.file_name):
        faults.add(FaultKind.JSON, f"{where}: file_name {image.file_name!r} leaves the image folder")
    elif image.width < 1 or image.height < 1:
        faults.add(FaultKind.SIZE, f"{where}: image {image.file_name} is empty: {image.width}x{image.height}")
    elif image.width * image.height > MAX_PIXELS:
        told = f"image {image.file_name} is too large: {image.width}x{image.height}"
        faults.add(FaultKind.SIZE, f"{where}: {told}; at most {MAX_PIXELS} pixels are read")
    elif (stem := str(Path(image.file_name).with_suffix(""))) not in file_of:
        images[image.id] = image
        file_of[stem] = image.file_name
    elif image.file_name == file_of[stem]:
        faults.add(FaultKind.DUPLICATE, f"{where}: image file {image.file_name} occurs twice")
    else:
        faults.add(
            FaultKind.DUPLICATE,
            f"{where}: image file {image.file_name}: its predictions would overwrite those of "
            f"{file_of[stem]}; rename one of them",
        )


def has(entry: Entry, wanted: dict[str, Any], where: str, faults: Faults) -> bool:
    """Whether all wanted keys are there with the wanted types; adds a fault for each that is not."""
    sound = True
    for key, kind in wanted.items():
        if key not in entry:
            faults.add(FaultKind.JSON, f"{where}: '{key}' is missing")
        elif not isinstance(entry[key], kind) or (isinstance(entry[key], bool) and kind in (int, (int, str))):
            faults.add(FaultKind.JSON, f"{where}: '{key}' has the wrong type ({type(entry[key]).__name__})")
        else:
            continue
        sound = False
    return sound


def is_inside(name: str) -> bool:
    """Whether a file name stays in the folder that it is relative to."""
    path = Path(name)
    return bool(path.name) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _is_color(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) == 3 and all(type(v) is int and 0 <= v <= 255 for v in value)
    )
