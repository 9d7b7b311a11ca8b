"""What all COCO JSON files have in common: images, categories, and lists of objects with required keys.

There are two ways to read these files. Preparation and `check` read them strictly and collect every fault by
kind (`Faults`), one object at a time. Evaluators accept what the official evaluators accept: they read whole
files by `read_lists`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kmax.data.faults import FaultKind, Faults
from kmax.data.formats import json_stream
from kmax.data.formats.coco_panoptic import Image, ImageId, JsonCategory
from kmax.data.formats.json_numbers import whole
from kmax.data.formats.png import MAX_PIXELS
from kmax.errors import InputError
from kmax.files import read_json
from kmax.folders import is_utf8

JsonObject = dict[str, Any]
HEADER_KEYS = ("categories", "images")
# Types of keys: those that accept whole numbers in the form of floats, and those that reject true and false.
_WHOLE = (int, (int, str), (int, bool))
_NO_BOOL = (int, (int, str), (int, float))


@dataclass(frozen=True)
class Header:
    """The valid images and categories of a JSON.

    Attributes:
        isthing: value for categories without this key; None: the key is required.
    """

    path: Path
    isthing: bool | None = None
    images: dict[ImageId, Image] = field(default_factory=dict)
    categories: dict[int, JsonCategory] = field(default_factory=dict)
    # By name without suffix, as predictions are named.
    _file_of: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def add(self, key: str, where: str, entry: JsonObject, faults: Faults) -> None:
        """Add an object of the list under `key`, "categories" or "images", or a fault."""
        if key == "categories":
            self._add_category(where, entry, faults)
        else:
            self._add_image(where, entry, faults)

    def _add_category(self, where: str, entry: JsonObject, faults: Faults) -> None:
        types = {"id": int, "name": str} | ({"isthing": (int, bool)} if self.isthing is None else {})
        if not has(entry, types, where, faults):
            return
        number, color = entry["id"], entry.get("color")
        if number < 0:
            faults.add(FaultKind.JSON, f"{where}: category id {number} is below 0")
            return
        if number in self.categories:
            faults.add(FaultKind.DUPLICATE, f"{where}: duplicate category id {number}")
            return
        if color is not None and (color := _color(color)) is None:
            faults.add(FaultKind.JSON, f"{where}: color is not three numbers 0..255")
        isthing = bool(entry.get("isthing", self.isthing))
        self.categories[number] = JsonCategory(number, entry["name"], isthing, color)

    def _add_image(self, where: str, entry: JsonObject, faults: Faults) -> None:
        types = {"id": (int, str), "file_name": str, "width": int, "height": int}
        if not has(entry, types, where, faults):
            return
        image = Image(entry["id"], entry["file_name"], entry["width"], entry["height"])
        size = f"{image.width}x{image.height}"
        stem = str(Path(image.file_name).with_suffix("")) if is_inside(image.file_name) else ""
        if image.id in self.images:
            faults.add(FaultKind.DUPLICATE, f"{where}: duplicate image id {image.id}")
        elif not stem:
            faults.add(FaultKind.JSON, f"{where}: file_name {image.file_name!r} leaves the image folder")
        elif not is_utf8(image.file_name):
            faults.add(
                FaultKind.UNUSABLE_NAME, f"{where}: file_name {image.file_name!r} is not valid Unicode"
            )
        elif image.width < 1 or image.height < 1:
            faults.add(FaultKind.SIZE, f"{where}: image {image.file_name} is empty: {size}")
        elif image.width * image.height > MAX_PIXELS:
            reason = f"is too large: {size}; the limit is {MAX_PIXELS} pixels"
            faults.add(FaultKind.SIZE, f"{where}: image {image.file_name} {reason}")
        elif stem not in self._file_of:
            self.images[image.id] = image
            self._file_of[stem] = image.file_name
        elif image.file_name == self._file_of[stem]:
            faults.add(FaultKind.DUPLICATE, f"{where}: duplicate image file {image.file_name}")
        else:
            reason = f"its predictions would overwrite those of {self._file_of[stem]}; rename one of them"
            faults.add(FaultKind.DUPLICATE, f"{where}: image file {image.file_name}: {reason}")


def read_header(path: Path, what: str, faults: Faults, *, isthing: bool | None = None) -> Header:
    """Read images and categories.

    Args:
        what: name of the file's role in errors.
        isthing: value for categories without this key; None: the key is required.

    Raises:
        InputError: the file is missing or not JSON.
    """
    header = Header(path, isthing)
    for key, where, entry in objects(path, what, HEADER_KEYS, faults):
        header.add(key, where, entry, faults)
    return header


def objects(
    path: Path, what: str, keys: tuple[str, ...], faults: Faults
) -> Iterator[tuple[str, str, JsonObject]]:
    """(key, place for error messages, object) for each object of the lists under `keys`.

    Raises:
        InputError: the file is missing or not JSON.
    """
    places = dict.fromkeys(keys, -1)
    lists: set[str] = set()
    for key, entry in json_stream.entries(path, what, set(keys)):
        if not key:
            faults.add(FaultKind.JSON, f"{path}: not a JSON object")
            return
        if key not in places:
            continue
        if entry is json_stream.EMPTY:
            lists.add(key)
        elif isinstance(entry, dict):
            # A dict in place of a list is read as its only entry, and then reported for its missing keys.
            lists.add(key)
            places[key] += 1
            yield key, f"{path}: {key}[{places[key]}]", entry
        else:
            places[key] += 1
            faults.add(FaultKind.JSON, f"{path}: {key}[{places[key]}] is not an object")
    for key in keys:
        if key not in lists:
            faults.add(FaultKind.JSON, f"{path}: '{key}' is missing or not a list")


def read_lists(path: Path, what: str, keys: tuple[str, ...]) -> dict[str, Any]:
    """Read a whole JSON object whose values under `keys` are lists of objects.

    Args:
        what: name of the file's role in errors.

    Raises:
        InputError: missing, not a JSON object, or a key is missing or not such a list.
    """
    value = read_json(path, what)
    if not isinstance(value, dict):
        raise InputError(f"{path}: {what}: not a JSON object")
    faults = [
        f"{path}: {what}: '{key}' is missing or not a list" for key in keys if not are_objects(value.get(key))
    ]
    if faults:
        raise InputError(faults)
    return value


def are_objects(value: Any) -> bool:
    """Whether this is a list of JSON objects."""
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)


def has(entry: JsonObject, types: dict[str, Any], where: str, faults: Faults) -> bool:
    """Whether all keys of `types` exist with these types; adds a fault for each one that does not.

    Whole numbers in the form of floats are replaced by integers where these are among the types.
    """
    valid = True
    for key, kind in types.items():
        if key not in entry:
            faults.add(FaultKind.JSON, f"{where}: '{key}' is missing")
        elif isinstance(value := entry[key], kind) and not (isinstance(value, bool) and kind in _NO_BOOL):
            continue
        elif kind in _WHOLE and (number := whole(value)) is not None:
            entry[key] = number
            continue
        else:
            faults.add(FaultKind.JSON, f"{where}: '{key}' has the wrong type ({type(value).__name__})")
        valid = False
    return valid


def is_inside(name: str) -> bool:
    """Whether a relative file name stays inside its folder."""
    path = Path(name)
    return bool(path.name) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _color(value: Any) -> tuple[int, int, int] | None:
    numbers = [whole(part) for part in value] if isinstance(value, list) else []
    known = [number for number in numbers if number is not None and 0 <= number <= 255]
    return (known[0], known[1], known[2]) if len(known) == len(numbers) == 3 else None
