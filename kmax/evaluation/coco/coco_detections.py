"""COCO instance JSON: ground truth and detections, checked before any compiled code sees them.

The official evaluator stops in the middle, or goes on in silence, on most of what is refused or told here.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Any

from kmax.data.formats.coco_regions import is_count, is_number, region_fault
from kmax.errors import InputError
from kmax.evaluation.panoptic.panoptic_files import Oddities
from kmax.files import read_json

_READ = ("image_id", "category_id", "score", "segmentation", "bbox")


def read_ground_truth(path: Path, oddities: Oddities) -> dict[str, Any]:
    """An instance JSON such as `instances_val2017.json`: images, categories, annotations.

    Raises:
        InputError: every entry that lacks what the evaluator reads.
    """
    content = read_json(path, "ground truth JSON")
    keys = ("images", "categories", "annotations")
    if not isinstance(content, dict) or not all(_are_objects(content.get(key)) for key in keys):
        raise InputError(f"{path}: ground truth JSON: no lists of 'images', 'categories' and 'annotations'")
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
                oddities.add(f"ground truth: an entry of {key} is listed twice", f"id {entry['id']}")
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
            faults.append(f"{where}: 'id' {entry.get('id')!r:.40} is no number or occurs twice")
        elif not is_number(entry.get("area")) or not _is_box(entry.get("bbox")):
            faults.append(f"{where}: category {entry['category_id']}: no sound 'area' and 'bbox'")
        elif entry.get("iscrowd") not in (0, 1):
            faults.append(f"{where}: category {entry['category_id']}: 'iscrowd' is neither 0 nor 1")
        elif fault := region_fault(entry.get("segmentation"), sizes[entry["image_id"]], ground_truth=True):
            faults.append(f"{where}: category {entry['category_id']}: {fault}")
        else:
            seen.add(entry["id"])
            if entry["id"] == 0:
                oddities.add("ground truth: what has the annotation id 0 is never found", where)
    if faults:
        raise InputError(faults)
    return content


def read_detections(
    path: Path, truth: dict[str, Any], iou_type: str, oddities: Oddities
) -> list[dict[str, Any]]:
    """A list of detections in COCO's format for results.

    Raises:
        InputError: every detection of an unknown image or category, without a finite score, or whose mask or
            box is malformed or of another size than its image.
    """
    content = read_json(path, "detections JSON")
    if not _are_objects(content):
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
            # pycocotools leaves it out in silence, and with it often all detections: those of contiguous ids.
            faults.append(f"{where}: the ground truth has no such category")
        elif not is_number(entry.get("score")):
            faults.append(f"{where}: 'score' is {entry.get('score')!r:.40}, not a finite number")
        elif with_box != bool(entry.get("bbox")):
            faults.append(f"{where}: some detections have 'bbox' and some have not")
        elif with_box and not _is_box(entry["bbox"]):
            faults.append(f"{where}: 'bbox' is not four numbers")
        elif region is None and not with_box:
            faults.append(f"{where}: neither 'segmentation' nor 'bbox'")
        elif region is not None and (fault := region_fault(region, sizes[image], ground_truth=False)):
            faults.append(f"{where}: {fault}")
        elif region is None and iou_type == "segm":
            oddities.add("detections: no mask, so the box counts as one", f"image {image}")
    if faults:
        raise InputError(faults)
    # A null is an absent entry. Others (a caption) would make pycocotools read the list as something else.
    return [{key: entry[key] for key in _READ if entry.get(key) is not None} for entry in content]


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))


def _is_one_of(value: Any, known: Container[Any]) -> bool:
    return type(value) in (int, str) and value in known


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)
