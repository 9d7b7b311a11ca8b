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
from kmax.data.formats.coco_regions import is_count, is_number, region_fault, without_short_polygons
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
                yield entry | {"segmentation": region}
    if short:
        number = sum(count for _, count in short)
        note = f"polygons of fewer than 3 points are left out: {number}"
        faults.warn(f"{header.path}: {note} (first: annotation {short[0][0]})")
    if empty:
        note = f"annotations with an empty 'segmentation' are left out: {len(empty)} of {len(seen)}"
        faults.warn(f"{header.path}: {note} (first: annotation {empty[0]})")


def read_ground_truth(path: Path, warnings: InputWarnings) -> dict[str, Any]:
    """An instance JSON such as `instances_val2017.json`: images, categories, annotations.

    Raises:
        InputError: entries without the keys that the evaluator reads, or with invalid values; one line each.
    """
    content = read_lists(path, "ground truth JSON", ("images", "categories", "annotations"))
    faults = [
        f"{path}: {key}[{index}]: '{field}' is missing or not a number"
        for key, fields in (("images", ("id", "height", "width")), ("categories", ("id",)))
        for index, entry in enumerate(content[key])
        for field in fields
        if not is_count(entry.get(field))
    ]
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
    seen: set[Any] = set()
    for index, entry in enumerate(content["annotations"]):
        where = f"{path}: annotations[{index}] (image {entry.get('image_id')})"
        if not _is_one_of(entry.get("image_id"), sizes):
            faults.append(f"{where}: unknown image")
        elif not _is_one_of(entry.get("category_id"), categories):
            faults.append(f"{where}: unknown category {entry.get('category_id')!r:.40}")
        elif not is_count(entry.get("id")) or entry["id"] in seen:
            faults.append(f"{where}: 'id' {entry.get('id')!r:.40} is not a number or a duplicate")
        elif not is_number(entry.get("area")) or not _is_box(entry.get("bbox")):
            faults.append(f"{where}: category {entry['category_id']}: 'area' or 'bbox' is missing or invalid")
        elif entry.get("iscrowd") not in (0, 1):
            faults.append(f"{where}: category {entry['category_id']}: 'iscrowd' is neither 0 nor 1")
        elif fault := region_fault(entry.get("segmentation"), sizes[entry["image_id"]], ground_truth=True):
            faults.append(f"{where}: category {entry['category_id']}: {fault}")
        else:
            seen.add(entry["id"])
            if entry["id"] == 0:
                warnings.add("ground truth: an annotation with id 0 is never matched", where)
    if faults:
        raise InputError(faults)
    return content


def read_detections(
    path: Path, truth: dict[str, Any], iou_type: str, warnings: InputWarnings
) -> list[dict[str, Any]]:
    """A list of detections in COCO's format for results.

    Raises:
        InputError: detections of unknown images or categories, without a finite score, or with a mask or box
            that is malformed or does not have the size of its image; one line each.
    """
    content = read_json(path, "detections JSON")
    if not are_objects(content):
        raise InputError(f"{path}: detections JSON: not a list of objects")
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    categories = {category["id"] for category in truth["categories"]}
    if content and not any(_is_one_of(entry.get("image_id"), sizes) for entry in content):
        first = f"{content[0].get('image_id')!r:.40}"
        raise InputError(
            f"{path}: detections JSON: none of its images, such as image {first}, is among the {len(sizes)} "
            "of the ground truth; is it another split?"
        )
    with_box = bool(content and content[0].get("bbox"))
    faults = []
    for index, entry in enumerate(content):
        image, category = entry.get("image_id"), entry.get("category_id")
        where = f"{path}: detection {index} (image {image}, category {category})"
        region = entry.get("segmentation")
        if not _is_one_of(image, sizes):
            faults.append(f"{where}: the ground truth has no such image; is it another split?")
        elif type(category) is not int:
            faults.append(f"{where}: 'category_id' is missing or not a number")
        elif category not in categories:
            # pycocotools silently ignores it: often all detections, if their ids are contiguous.
            faults.append(f"{where}: the ground truth has no such category")
        elif not is_number(entry.get("score")):
            faults.append(f"{where}: 'score' is {entry.get('score')!r:.40}, not a finite number")
        elif with_box != bool(entry.get("bbox")):
            faults.append(f"{where}: some detections have 'bbox' and others do not")
        elif with_box and not _is_box(entry["bbox"]):
            faults.append(f"{where}: 'bbox' is not four numbers")
        elif region is None and not with_box:
            faults.append(f"{where}: neither 'segmentation' nor 'bbox'")
        elif region is not None and (fault := region_fault(region, sizes[image], ground_truth=False)):
            faults.append(f"{where}: {fault}")
        elif region is None and iou_type == "segm":
            warnings.add("detections: without a mask, the box is used as the mask", f"image {image}")
    if faults:
        raise InputError(faults)
    # Null counts as missing. Other keys (such as a caption) would make pycocotools read another format.
    return [{key: entry[key] for key in _READ if entry.get(key) is not None} for entry in content]


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))


def _is_one_of(value: Any, known: Container[Any]) -> bool:
    return type(value) in (int, str) and value in known
