"""Reading a panoptic JSON: strictly for prepared data, or as the official evaluator reads it.

`read_panoptic_json` and `read_annotations` validate a dataset, and report each fault in one line.
`read_ground_truth` and `read_predictions` serve the evaluators: they accept what the official evaluator
accepts, and reject what crashes it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
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
    CategoryFacts,
    ImageId,
    PanopticJson,
    Segment,
)
from kmax.errors import InputError, InputWarnings

WHAT = "panoptic JSON"


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
        if not has(entry, {"id": int, "category_id": int, "area": int}, here, faults):
            continue
        if not 0 < entry["id"] < 2**24:
            faults.add(FaultKind.JSON, f"{here}: segment id {entry['id']} is not in 1..{2**24 - 1}")
        elif entry["id"] in segments:
            faults.add(FaultKind.DUPLICATE, f"{here}: duplicate segment id {entry['id']}")
        elif not _is_box(box := entry.get("bbox", list(NO_BOX))):
            faults.add(FaultKind.JSON, f"{here}: bbox is not four integers")
        elif entry.get("iscrowd", 0) not in (0, 1):
            faults.add(FaultKind.JSON, f"{here}: iscrowd is neither 0 nor 1")
        else:
            segments[entry["id"]] = Segment(
                entry["id"],
                entry["category_id"],
                entry["area"],
                tuple(box),
                bool(entry.get("iscrowd", 0)),
            )
    return list(segments.values())


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(isinstance(v, int) for v in value)


# ------------------------------------------------------------------------------------------------- evaluators


def read_ground_truth(path: Path, warnings: InputWarnings) -> tuple[list[CategoryFacts], list[JsonObject]]:
    """Categories and annotations of the ground truth, as the official evaluator reads them.

    Raises:
        InputError: missing, or JSON of another structure: one line per fault.
    """
    content = read_lists(path, "ground truth JSON", ("categories", "annotations"))
    categories = _categories(content["categories"], path, warnings)
    return categories, _checked_annotations(content["annotations"], path)


def read_predictions(path: Path) -> list[JsonObject]:
    """The annotations of predictions, as the official evaluator reads them; errors as `read_ground_truth`."""
    return _checked_annotations(read_lists(path, "prediction JSON", ("annotations",))["annotations"], path)


def _categories(entries: list[JsonObject], path: Path, warnings: InputWarnings) -> list[CategoryFacts]:
    faults = [
        f"{path}: categories[{index}]: '{key}' is missing or not a number"
        for index, entry in enumerate(entries)
        for key in ("id", "isthing")
        if not isinstance(entry.get(key), int)
    ]
    if faults:
        raise InputError(faults)
    categories: dict[int, CategoryFacts] = {}
    for entry in entries:
        if entry["id"] in categories:
            warnings.add("ground truth: duplicate category, the last one is used", f"category {entry['id']}")
        name = str(entry.get("name", entry["id"]))
        categories[entry["id"]] = CategoryFacts(entry["id"], name, entry["isthing"] == 1)
    if not categories:
        raise InputError(f"{path}: no categories")
    return list(categories.values())


def _checked_annotations(entries: list[JsonObject], path: Path) -> list[JsonObject]:
    """The same list, if each entry has a usable image id, file name and list of segments with ids."""
    faults = []
    for index, entry in enumerate(entries):
        where = f"{path}: annotations[{index}]"
        if type(entry.get("image_id")) not in (int, str):
            faults.append(f"{where}: 'image_id' is missing or neither a number nor a string")
        elif not isinstance(entry.get("file_name"), str):
            faults.append(f"{where} (image {entry['image_id']}): 'file_name' is missing or not a string")
        elif not are_objects(entry.get("segments_info")):
            faults.append(f"{where} (image {entry['image_id']}): 'segments_info' is missing or not a list")
        else:
            faults.extend(_segment_faults(entry, where))
    if faults:
        raise InputError(faults)
    return entries


def _segment_faults(entry: JsonObject, where: str) -> list[str]:
    faults = []
    for number, segment in enumerate(entry["segments_info"]):
        here = f"{where} (image {entry['image_id']}): segments_info[{number}]"
        if type(segment.get("id")) is not int or not 0 <= segment["id"] < 2**24:
            faults.append(f"{here}: 'id' is {segment.get('id')!r:.40}, not a number in 0..{2**24 - 1}")
        elif type(segment.get("category_id", 0)) is not int:
            faults.append(f"{here}: segment {segment['id']}: category_id is not an integer")
        elif type(segment.get("area", 0)) not in (int, float) or not abs(segment.get("area", 0)) < 2**53:
            faults.append(f"{here}: segment {segment['id']}: area is not a number")
    return faults
