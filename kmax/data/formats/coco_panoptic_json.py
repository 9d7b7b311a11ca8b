"""Reading a panoptic JSON, one annotation at a time: what is sound in it, and every fault as one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kmax.data.faults import FaultKind, Faults
from kmax.data.formats.coco_json import Header, has, is_inside, objects, read_header
from kmax.data.formats.coco_panoptic import NO_BOX, Annotation, ImageId, PanopticJson, Segment
from kmax.errors import InputError

WHAT = "panoptic JSON"


def read_panoptic_json(path: Path) -> PanopticJson:
    """Read and validate a panoptic JSON.

    Raises:
        InputError: missing, not JSON, or any fault inside (the first of each kind, one line each).
    """
    faults = Faults()
    header = read_header(path, WHAT, faults)
    annotations = {annotation.image_id: annotation for annotation in read_annotations(header, faults)}
    if faults.count():
        raise InputError(faults.lines())
    images = list(header.images.values())
    return PanopticJson(
        path, images, [annotations[image.id] for image in images], list(header.categories.values())
    )


def read_annotations(header: Header, faults: Faults) -> Iterator[Annotation]:
    """The annotations of a JSON in its order, at most one per image; its sound segments only.

    Raises:
        InputError: the file is missing or not JSON.
    """
    path, images = header.path, header.images
    done: set[ImageId] = set()
    pngs: set[str] = set()
    for _, where, entry in objects(path, WHAT, ("annotations",), faults):
        wanted = {"image_id": (int, str), "file_name": str, "segments_info": list}
        if not has(entry, wanted, where, faults):
            continue
        image_id, file_name = entry["image_id"], entry["file_name"]
        if image_id not in images:
            faults.add(FaultKind.ORPHAN, f"{where}: annotation of unknown image {image_id}")
        elif image_id in done:
            faults.add(FaultKind.DUPLICATE, f"{where}: image {image_id} is annotated twice")
        elif file_name in pngs:
            faults.add(FaultKind.DUPLICATE, f"{where}: panoptic PNG {file_name} belongs to two images")
        elif not is_inside(file_name):
            faults.add(FaultKind.JSON, f"{where}: file_name {file_name!r} leaves the panoptic folder")
        else:
            segments = _segments(entry["segments_info"], f"{path}: image {image_id}", header, faults)
            yield Annotation(image_id, file_name, segments)
            done.add(image_id)
            pngs.add(file_name)
    for image in images.values():
        if image.id not in done:
            faults.add(
                FaultKind.UNANNOTATED, f"{path}: image {image.id} ({image.file_name}) has no annotation"
            )


def _segments(entries: list[Any], where: str, header: Header, faults: Faults) -> list[Segment]:
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
            faults.add(FaultKind.DUPLICATE, f"{here}: segment id {entry['id']} occurs twice")
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
            if entry["category_id"] not in header.categories:
                unknown = f"unknown category {entry['category_id']}"
                faults.add(FaultKind.CATEGORY, f"{where}: segment {entry['id']}: {unknown}")
    return list(segments.values())


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(isinstance(v, int) for v in value)
