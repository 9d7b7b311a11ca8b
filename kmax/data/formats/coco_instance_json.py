"""COCO instance JSON: annotations and detections, checked before any compiled code reads them.

`instance_annotations` validates a dataset for preparation. `read_ground_truth` and `read_detections` serve
the evaluator. Most input that they reject or warn about crashes the official evaluator, or is
silently ignored.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from kmax.data.faults import FaultKind, Faults
from kmax.data.formats.coco_json import Header, JsonObject, are_objects, has, objects, read_lists
from kmax.data.formats.coco_regions import (
    box_fault,
    is_id,
    is_number,
    plain_region,
    region_fault,
    without_short_polygons,
)
from kmax.data.formats.json_numbers import WholeNumbers
from kmax.data.formats.png import MAX_PIXELS
from kmax.errors import InputError, InputWarnings
from kmax.files import read_json

WHAT = "instance JSON"
_READ = ("image_id", "category_id", "score", "segmentation", "bbox")


def instance_annotations(header: Header, faults: Faults) -> Iterator[JsonObject]:
    """The valid annotations of a dataset, in the order of the JSON; adds every fault.

    Polygons that cover no pixels, and annotations without any other, are left out with a warning.

    Yields:
        Objects with `id`, `image_id` (in `header.images`), `category_id`, a valid `segmentation`, and perhaps
        `iscrowd`.

    Raises:
        InputError: the file is missing or not JSON.
    """
    seen: set[int] = set()
    short: list[tuple[int, int]] = []
    empty: list[int] = []
    for _, where, entry in objects(header.path, WHAT, ("annotations",), faults):
        types = {"id": int, "image_id": (int, str), "category_id": int}
        if not has(entry, types, where, faults):
            continue
        image = header.images.get(entry["image_id"])
        if image is None:
            faults.add(FaultKind.ORPHAN, f"{where}: annotation of unknown image {entry['image_id']}")
        elif entry["id"] in seen:
            faults.add(FaultKind.DUPLICATE, f"{where}: duplicate annotation id {entry['id']}")
        elif entry["category_id"] not in header.categories:
            faults.add(FaultKind.CATEGORY, f"{where}: unknown category {entry['category_id']}")
        elif entry.get("iscrowd", 0) not in (0, 1):
            faults.add(FaultKind.JSON, f"{where}: iscrowd is neither 0 nor 1")
        else:
            seen.add(entry["id"])
            size = image.height, image.width
            region, number = without_short_polygons(entry.get("segmentation"))
            if number:
                short.append((entry["id"], number))
            if region == []:
                empty.append(entry["id"])
            elif fault := region_fault(region, size, ground_truth=True):
                faults.add(FaultKind.JSON, f"{where} (id {entry['id']}, image {image.id}): {fault}")
            else:
                yield entry | {"segmentation": plain_region(region)}
    if short:
        number = sum(count for _, count in short)
        note = f"polygons of fewer than 3 points are left out: {number}"
        faults.warn(f"{header.path}: {note} (first: annotation {short[0][0]})")
    if empty:
        note = f"annotations with an empty 'segmentation' are left out: {len(empty)} of {len(seen)}"
        faults.warn(f"{header.path}: {note} (first: annotation {empty[0]})")


def read_ground_truth(
    path: Path, warnings: InputWarnings, *, masks: bool = True, boxes: bool = True
) -> dict[str, Any]:
    """An instance JSON such as `instances_val2017.json`: images, categories, annotations.

    Whole numbers in another form are replaced by integers. Annotations of unlisted images and categories are
    left out with a warning, as the official evaluator ignores them.

    Args:
        masks: the masks of the annotations are evaluated, and must be valid.
        boxes: so are their boxes. What is not evaluated is left out.

    Raises:
        InputError: entries without the keys that the evaluator reads, or with invalid values; one line each.
    """
    content = read_lists(path, "ground truth JSON", ("images", "categories", "annotations"))
    numbers = WholeNumbers(path, "ground truth")
    faults = _listed_faults(content, path, numbers)
    if faults:
        raise InputError(faults)
    for key in ("images", "categories"):
        listed: set[int] = set()
        for entry in content[key]:
            if entry["id"] in listed:
                warnings.add(f"ground truth: duplicate entry of {key}", f"id {entry['id']}")
            listed.add(entry["id"])
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    seen: set[int] = set()
    kept = []
    for index, entry in enumerate(content["annotations"]):
        where = f"{path}: annotations[{index}] (image {entry.get('image_id')!r:.40})"
        numbers.replace(entry, "image_id")
        if fault := _annotation_fault(entry, numbers, seen):
            faults.append(f"{where}: {fault}")
        elif entry["image_id"] not in sizes:
            warnings.add("ground truth: an annotation of an unlisted image is ignored", where)
        elif entry["category_id"] not in categories:
            kind = "ground truth: an annotation of an unlisted category is ignored"
            warnings.add(kind, f"{where} category {entry['category_id']!r:.40}")
        elif fault := _shape_fault(entry, sizes[entry["image_id"]], masks, boxes):
            faults.append(f"{where}: category {entry['category_id']}: {fault}")
        else:
            kept.append(entry)
            if entry["id"] == 0:
                warnings.add("ground truth: an annotation with id 0 is never matched", where)
    if faults:
        raise InputError(faults)
    numbers.warn(warnings)
    return content | {"annotations": kept}


def _listed_faults(content: dict[str, Any], path: Path, numbers: WholeNumbers) -> list[str]:
    """The faults of images and categories."""
    faults = []
    for index, image in enumerate(content["images"]):
        where = f"{path}: images[{index}]"
        if not isinstance(image.get("id"), str) and not is_id(numbers.replace(image, "id")):
            faults.append(f"{where}: 'id' is missing or neither a whole number nor a string")
        height, width = (numbers.replace(image, key) for key in ("height", "width"))
        faults += [
            f"{where}: '{key}' is missing or not a whole number"
            for key, side in (("height", height), ("width", width))
            if side is None or side < 0
        ]
        if height is not None and width is not None and height * width > MAX_PIXELS:
            reason = f"is too large: {width}x{height}; the limit is {MAX_PIXELS} pixels"
            faults.append(f"{where}: image {image.get('id')!r:.40} {reason}")
    if len({type(image.get("id")) for image in content["images"]}) > 1 and not faults:
        faults.append(f"{path}: images: some ids are numbers and others strings")
    faults += [
        f"{path}: categories[{index}]: 'id' is missing or not a whole number"
        for index, category in enumerate(content["categories"])
        if not is_id(numbers.replace(category, "id"))
    ]
    return faults


def _annotation_fault(entry: JsonObject, numbers: WholeNumbers, seen: set[int]) -> str | None:
    """The fault of the ids of an annotation; valid ones are added to `seen`."""
    for key in ("image_id", "category_id"):
        if key not in entry or isinstance(entry[key], (list, dict)):
            return f"'{key}' is missing or neither a number nor a string"
    numbers.replace(entry, "category_id")
    number = numbers.replace(entry, "id")
    if number is None or not is_id(number):
        return f"'id' is missing or not a whole number: {entry.get('id')!r:.40}"
    if number in seen:
        return f"'id' {number} is a duplicate"
    seen.add(number)
    if numbers.replace(entry, "iscrowd") not in (0, 1):
        return "'iscrowd' is neither 0 nor 1"
    return None


def _shape_fault(entry: JsonObject, size: tuple[int, int], masks: bool, boxes: bool) -> str | None:
    """The fault of area, box and mask of an annotation; those that are not evaluated are left out."""
    if entry["iscrowd"]:
        # Crowds are ignored whatever their area is.
        entry["area"] = entry["area"] if is_number(entry.get("area")) else 0
    if not is_number(entry.get("area")):
        return "'area' is missing or not a finite number"
    if not boxes:
        entry.pop("bbox", None)
    elif not _is_box(entry.get("bbox")):
        return "'bbox' is missing or not four finite numbers"
    if not masks:
        entry.pop("segmentation", None)
    elif fault := region_fault(entry.get("segmentation"), size, ground_truth=True):
        return fault
    else:
        entry["segmentation"] = plain_region(entry["segmentation"])
    return None


def read_detections(
    path: Path, truth: dict[str, Any], iou_type: str, warnings: InputWarnings
) -> list[dict[str, Any]]:
    """A list of detections in COCO's format for results.

    As for the official evaluator, the first detection decides whether all have boxes. If so, masks may be
    polygons, and are not read where boxes are evaluated. If not, boxes are those of the masks.

    Raises:
        InputError: detections of unknown images or categories, without a finite score, or with a mask or box
            that is malformed or does not have the size of its image; one line each.
    """
    content = read_json(path, "detections JSON")
    if not are_objects(content):
        raise InputError(f"{path}: detections JSON: not a list of objects")
    numbers = WholeNumbers(path, "detections")
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    categories = {category["id"] for category in truth["categories"]}
    for entry in content:
        numbers.replace(entry, "image_id")
    if content and not any(_is_one_of(entry.get("image_id"), sizes) for entry in content):
        first = f"{content[0].get('image_id')!r:.40}"
        raise InputError(
            f"{path}: detections JSON: none of its images, such as image {first}, is among the {len(sizes)} "
            "of the ground truth; is it another split?"
        )
    with_box = bool(content) and _has_box(content[0])
    faults, found = [], []
    for index, entry in enumerate(content):
        image, category = entry.get("image_id"), numbers.replace(entry, "category_id")
        where = f"{path}: detection {index} (image {image!r:.40}, category {entry.get('category_id')!r:.40})"
        if not _is_one_of(image, sizes):
            faults.append(f"{where}: the ground truth has no such image; is it another split?")
        elif category is None:
            faults.append(f"{where}: 'category_id' is missing or not a whole number")
        elif category not in categories:
            # pycocotools silently ignores it: often all detections, if their ids are contiguous.
            faults.append(f"{where}: the ground truth has no such category")
        elif not is_number(entry.get("score")):
            faults.append(f"{where}: 'score' is {entry.get('score')!r:.40}, not a finite number")
        elif fault := _detection_fault(entry, sizes[image], iou_type, with_box):
            faults.append(f"{where}: {fault}")
        else:
            found.append({key: entry[key] for key in _READ if entry.get(key) is not None})
            if iou_type == "segm" and "segmentation" not in found[-1]:
                warnings.add("detections: without a mask, the box is used as the mask", f"image {image}")
    if faults:
        raise InputError(faults)
    numbers.warn(warnings)
    return found


def _detection_fault(entry: JsonObject, size: tuple[int, int], iou_type: str, with_box: bool) -> str | None:
    """The fault of box and mask; removes the one that is not evaluated.

    Null counts as missing. Keys other than `_READ`, such as a caption, would make pycocotools read another
    format.
    """
    if with_box != _has_box(entry) and (with_box or iou_type == "bbox"):
        return "some detections have 'bbox' and others do not"
    if not with_box:
        entry["bbox"] = None
    elif not _is_box(entry["bbox"]):
        return "'bbox' is not four finite numbers"
    elif iou_type == "bbox":
        entry["segmentation"] = None
    region = entry.get("segmentation")
    if region is not None:
        fault = region_fault(region, size, ground_truth=with_box)
        entry["segmentation"] = None if fault else plain_region(region)
        return fault
    if not with_box:
        return "neither 'segmentation' nor 'bbox'"
    return box_fault(entry["bbox"], size) if iou_type == "segm" else None


def _has_box(entry: JsonObject) -> bool:
    """Whether there is a box; null and an empty list count as missing."""
    return entry.get("bbox") not in (None, [])


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))


def _is_one_of(value: Any, known: Container[Any]) -> bool:
    return type(value) in (int, str) and value in known
