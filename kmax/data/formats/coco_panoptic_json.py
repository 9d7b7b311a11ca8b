"""Reading a panoptic JSON: strictly for prepared data, or as the official evaluator reads it.

`read_panoptic_json` and `read_annotations` validate a dataset, and report each fault in one line.
`read_ground_truth` and `read_predictions` serve the evaluators: they accept what the official evaluator
accepts, and reject what crashes it.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any

from kmax.data.faults import FaultKind, Faults
from kmax.data.formats.coco_json import (
    HEADER_KEYS,
    Header,
    JsonObject,
    are_objects,
    has,
    is_inside,
    objects,
    read_lists,
)
from kmax.data.formats.coco_panoptic import (
    NO_BOX,
    Annotation,
    Box,
    CategoryFacts,
    ImageId,
    PanopticJson,
    Segment,
)
from kmax.data.formats.json_numbers import WholeNumbers, whole
from kmax.errors import InputError, InputWarnings

WHAT = "panoptic JSON"
UNUSED = "predictions: an image that is not in the ground truth is ignored"


def read_panoptic_json(path: Path) -> PanopticJson:
    """Read and validate a panoptic JSON, in one pass.

    Raises:
        InputError: missing, not JSON, or any fault inside (the first of each kind, one line each).
    """
    faults = Faults()
    header = Header(path)
    parsed: list[tuple[str, Annotation]] = []
    for key, where, entry in objects(path, WHAT, (*HEADER_KEYS, "annotations"), faults):
        if key == "annotations":
            parsed += _annotation(path, where, entry, faults)
        else:
            header.add(key, where, entry, faults)
    annotations = {annotation.image_id: annotation for annotation in _linked(header, parsed, faults)}
    if faults.count():
        raise InputError(faults.lines())
    images = list(header.images.values())
    return PanopticJson(
        path, images, [annotations[image.id] for image in images], list(header.categories.values())
    )


def read_annotations(header: Header, faults: Faults) -> Iterator[Annotation]:
    """The annotations of a JSON in its order, one at a time; at most one per image, with valid segments.

    Raises:
        InputError: the file is missing or not JSON.
    """
    entries = objects(header.path, WHAT, ("annotations",), faults)
    parsed = (_annotation(header.path, where, entry, faults) for _, where, entry in entries)
    return _linked(header, itertools.chain.from_iterable(parsed), faults)


def _annotation(path: Path, where: str, entry: JsonObject, faults: Faults) -> list[tuple[str, Annotation]]:
    """One pair of `where` and the annotation with its valid segments; empty if the annotation is invalid."""
    if not has(entry, {"image_id": (int, str), "file_name": str, "segments_info": list}, where, faults):
        return []
    image_id, file_name = entry["image_id"], entry["file_name"]
    if not is_inside(file_name):
        faults.add(FaultKind.JSON, f"{where}: file_name {file_name!r} leaves the panoptic folder")
        return []
    segments = _segments(entry["segments_info"], f"{path}: image {image_id}", faults)
    return [(where, Annotation(image_id, file_name, segments))]


def _linked(header: Header, parsed: Iterable[tuple[str, Annotation]], faults: Faults) -> Iterator[Annotation]:
    """The annotations of images of the header, each image and PNG once; adds a fault for all others."""
    path, images = header.path, header.images
    done: set[ImageId] = set()
    pngs: set[str] = set()
    for where, annotation in parsed:
        image_id, file_name = annotation.image_id, annotation.file_name
        if image_id not in images:
            faults.add(FaultKind.ORPHAN, f"{where}: annotation of unknown image {image_id}")
        elif image_id in done:
            faults.add(FaultKind.DUPLICATE, f"{where}: image {image_id} has more than one annotation")
        elif file_name in pngs:
            faults.add(FaultKind.DUPLICATE, f"{where}: panoptic PNG {file_name} belongs to two images")
        else:
            for segment in annotation.segments:
                if segment.category_id not in header.categories:
                    reason = f"segment {segment.id}: unknown category {segment.category_id}"
                    faults.add(FaultKind.CATEGORY, f"{path}: image {image_id}: {reason}")
            yield annotation
            done.add(image_id)
            pngs.add(file_name)
    for image in images.values():
        if image.id not in done:
            faults.add(
                FaultKind.UNANNOTATED, f"{path}: image {image.id} ({image.file_name}) has no annotation"
            )


def _segments(entries: list[Any], where: str, faults: Faults) -> list[Segment]:
    segments: dict[int, Segment] = {}
    for i, entry in enumerate(entries):
        here = f"{where}: segments_info[{i}]"
        if not isinstance(entry, dict):
            faults.add(FaultKind.JSON, f"{here} is not an object")
            continue
        if not has(entry, {"id": int, "category_id": int, "area": (int, float)}, here, faults):
            continue
        box = _box(entry.get("bbox", list(NO_BOX)))
        if not 0 < entry["id"] < 2**24:
            faults.add(FaultKind.JSON, f"{here}: segment id {entry['id']} is not in 1..{2**24 - 1}")
        elif entry["id"] in segments:
            faults.add(FaultKind.DUPLICATE, f"{here}: duplicate segment id {entry['id']}")
        elif box is None:
            faults.add(FaultKind.JSON, f"{here}: bbox is not four numbers")
        elif entry.get("iscrowd", 0) not in (0, 1):
            faults.add(FaultKind.JSON, f"{here}: iscrowd is neither 0 nor 1")
        else:
            crowd = bool(entry.get("iscrowd", 0))
            area = entry["area"]
            if type(area) is float and (number := whole(area)) is not None:
                area = number
            segments[entry["id"]] = Segment(entry["id"], entry["category_id"], area, box, crowd)
    return list(segments.values())


def _box(value: Any) -> Box | None:
    """A box in whole pixels; `NO_BOX` for one with fractions, which is measured in the PNG instead."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    x, y, width, height = value
    if type(x) is type(y) is type(width) is type(height) is int:
        return x, y, width, height
    if not {type(side) for side in value} <= {int, float}:
        return None
    numbers = [number for number in map(whole, value) if number is not None]
    return (numbers[0], numbers[1], numbers[2], numbers[3]) if len(numbers) == 4 else NO_BOX


# ------------------------------------------------------------------------------------------------- evaluators


def read_ground_truth(path: Path, warnings: InputWarnings) -> tuple[list[CategoryFacts], list[JsonObject]]:
    """Categories and annotations of the ground truth, as the official evaluator reads them.

    Whole numbers in another form are replaced by integers, also by `read_predictions`.

    Raises:
        InputError: missing, or JSON of another structure: one line per fault.
    """
    content = read_lists(path, "ground truth JSON", ("categories", "annotations"))
    numbers = WholeNumbers(path, "ground truth")
    categories = _categories(content["categories"], path, numbers, warnings)
    faults: list[str] = []
    for index, entry in enumerate(content["annotations"]):
        faults += _image_id_faults(entry, f"{path}: annotations[{index}]", numbers)
        faults += _annotation_faults(entry, f"{path}: annotations[{index}]", numbers)
    if faults:
        raise InputError(faults)
    numbers.warn(warnings)
    return categories, content["annotations"]


def read_predictions(
    path: Path, warnings: InputWarnings, used: Container[ImageId] | None = None
) -> dict[ImageId, JsonObject]:
    """The predictions of images, as the official evaluator reads them: of several for one image the last.

    Args:
        used: images whose predictions must be valid; others have warnings. None: all.

    Raises:
        InputError: as `read_ground_truth`.
    """
    entries = read_lists(path, "prediction JSON", ("annotations",))["annotations"]
    numbers = WholeNumbers(path, "predictions")
    places: dict[ImageId, int] = {}
    faults: list[str] = []
    for index, entry in enumerate(entries):
        where = f"{path}: annotations[{index}]"
        if found := _image_id_faults(entry, where, numbers):
            if used is None or isinstance(entry.get("image_id", []), (list, dict)):
                faults += found
            else:
                warnings.add(UNUSED, f"image {entry['image_id']}")
            continue
        if entry["image_id"] in places:
            kind = "predictions: two entries for one image, the last one is used"
            warnings.add(kind, f"image {entry['image_id']}")
        places[entry["image_id"]] = index
    for image_id, index in places.items():
        if used is None or image_id in used:
            faults += _annotation_faults(entries[index], f"{path}: annotations[{index}]", numbers)
        else:
            warnings.add(UNUSED, f"image {image_id}")
    if faults:
        raise InputError(faults)
    numbers.warn(warnings)
    return {image_id: entries[index] for image_id, index in places.items()}


def _categories(
    entries: list[JsonObject], path: Path, numbers: WholeNumbers, warnings: InputWarnings
) -> list[CategoryFacts]:
    faults: list[str] = []
    listed: dict[int, tuple[str, JsonObject]] = {}
    for index, entry in enumerate(entries):
        where = f"{path}: categories[{index}]"
        number = numbers.read(entry.get("id"))
        if number is None:
            faults.append(f"{where}: 'id' is missing or not a whole number")
            continue
        if number in listed:
            warnings.add("ground truth: duplicate category, the last one is used", f"category {number}")
        listed[number] = where, entry
    for number, (where, entry) in listed.items():
        if "isthing" not in entry:
            faults.append(f"{where}: category {number}: 'isthing' is missing")
        elif entry["isthing"] not in (0, 1):
            kind = "ground truth: 'isthing' is neither 0 nor 1, and the category counts as stuff"
            warnings.add(kind, f"category {number}")
    if faults:
        raise InputError(faults)
    if not listed:
        raise InputError(f"{path}: no categories")
    return [
        CategoryFacts(number, str(entry.get("name", number)), entry["isthing"] == 1)
        for number, (_, entry) in listed.items()
    ]


def _image_id_faults(entry: JsonObject, where: str, numbers: WholeNumbers) -> list[str]:
    image_id = entry.get("image_id")
    if type(image_id) in (int, str) or numbers.replace(entry, "image_id") is not None:
        return []
    return [f"{where}: 'image_id' is missing or neither a whole number nor a string"]


def _annotation_faults(entry: JsonObject, where: str, numbers: WholeNumbers) -> list[str]:
    """The faults of file name and segments; whether categories are known is checked with the PNG."""
    where = f"{where} (image {entry.get('image_id')})"
    if not isinstance(entry.get("file_name"), str):
        return [f"{where}: 'file_name' is missing or not a string"]
    if not are_objects(entry.get("segments_info")):
        return [f"{where}: 'segments_info' is missing or not a list of objects"]
    faults = []
    for number, segment in enumerate(entry["segments_info"]):
        segment_id = numbers.replace(segment, "id")
        if segment_id is None or not 0 <= segment_id < 2**24:
            found = f"'id' is {segment.get('id')!r:.40}, not a whole number in 0..{2**24 - 1}"
            faults.append(f"{where}: segments_info[{number}]: {found}")
        numbers.replace(segment, "category_id")
    return faults
