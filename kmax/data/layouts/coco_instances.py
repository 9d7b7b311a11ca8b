"""COCO's instance annotation: polygons and run-lengths, painted into one map.

Instances may overlap; crowds are painted first, then larger ones before smaller ones, so that small
things stay visible. Instances that are covered completely are dropped. Segment ids count from 1 in the
order of the JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from kmax.config import Category, Parameters
from kmax.data.faults import Fault, Faults
from kmax.data.formats.coco_instance_json import WHAT, instance_annotations
from kmax.data.formats.coco_json import Header, read_header
from kmax.data.formats.coco_panoptic import IdMap, ImageId, JsonCategory
from kmax.data.layouts.coco_layout import CocoReader
from kmax.data.layouts.label_reading import areas_and_boxes, faults_once, segment
from kmax.data.layouts.layout import ImageRecord, PanopticLabels, RawFiles, RawSplit

Listed = list[tuple[int, bool, Any]]  # (category id, crowd, polygons or run-lengths)


class InstanceFiles(Parameters):
    """The location of one split below the data root, in the layout of COCO's instance annotation."""

    images: str
    instances_json: str


class CocoInstances(RawFiles):
    """A dataset in the layout of COCO's instance annotation: polygons and run-lengths of things."""

    lists_categories: ClassVar[bool] = True
    kind: Literal["coco_instances"]
    splits: dict[str, InstanceFiles]
    background: str | None = Field(
        description="name of the stuff class that all other pixels belong to; null: they are void"
    )

    def annotation_paths(self) -> list[str]:
        """The instance JSONs."""
        return [split.instances_json for split in self.splits.values()]

    def reader(
        self, root: Path, categories: list[Category] | None, dataset_file: Path
    ) -> CocoInstancesReader:
        """Open the files."""
        return CocoInstancesReader(self, root, categories, dataset_file)


def paint(
    listed: bytes, background: int | None, size: tuple[int, int], faults: list[Fault]
) -> PanopticLabels:
    """Segments of one image.

    Args:
        listed: its annotations, as JSON.
        background: category of all other pixels; None: they are void.
        size: (width, height) of the image.
    """
    instances: Listed = json.loads(listed)
    width, height = size
    masks = [(i, _mask(region, height, width)) for i, (_, _, region) in enumerate(instances, start=1)]
    masks.sort(key=lambda numbered: (not instances[numbered[0] - 1][1], -int(numbered[1].sum())))
    ids: IdMap = np.zeros((height, width), np.int32)
    for i, mask in masks:
        ids[mask] = i
    category_of = [(category, crowd) for category, crowd, _ in instances]
    if background is not None:
        category_of.append((background, False))
        ids[ids == 0] = len(category_of)
    segments = [
        segment(i, category, measured, iscrowd=crowd)
        for i, ((category, crowd), measured) in enumerate(
            zip(category_of, areas_and_boxes(ids, len(category_of)), strict=True), start=1
        )
        if measured[0]
    ]
    return PanopticLabels(segments, ids)


def _mask(region: Any, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels of a region, which `region_fault` has passed."""
    from pycocotools import mask as masks

    if isinstance(region, list):
        runs = masks.merge(masks.frPyObjects(region, height, width))
    elif isinstance(region["counts"], list):
        runs = masks.frPyObjects(region, height, width)
    else:
        runs = region
    return masks.decode(runs).astype(bool)  # type: ignore[no-any-return]


class CocoInstancesReader(CocoReader[CocoInstances]):
    """Instance JSONs; the background joins their categories."""

    def split(self, name: str, faults: Faults) -> RawSplit:
        """Open a split; the JSON's regions stay in memory as text, since their order is not the images'."""
        files = self._source.splits[self._listed(name)]
        faults = faults_once(faults, name, self._source.holdout)
        header = read_header(self._root / files.instances_json, WHAT, faults, isthing=True)
        other = self._source.background
        background = with_background(header, other) if other is not None and header.categories else None
        names = self._names(header, name, faults)
        listed = _read_regions(header, background, faults)
        images_dir = self._root / files.images

        def records() -> Iterator[ImageRecord]:
            for position, image in enumerate(header.images.values()):
                if image.file_name in names:
                    text = b"[" + b",".join(listed.get(image.id, [])) + b"]"
                    yield ImageRecord(
                        position=position,
                        image_id=image.id,
                        file_name=image.file_name,
                        images_dir=images_dir,
                        png_name=str(Path(image.file_name).with_suffix(".png")),
                        label_files=(),
                        size=(image.width, image.height),
                        read=partial(_paint_sound, text, background, (image.width, image.height)),
                    )

        return RawSplit(name, files.images, len(names), records())


def with_background(header: Header, name: str) -> int:
    """The id of the stuff category `name`, which is added to a header without it.

    A category of this name is used, even if it is a thing: instance annotation seldom says otherwise.
    """
    for category in header.categories.values():
        if category.name == name:
            header.categories[category.id] = replace(category, isthing=False)
            return category.id
    free = max(header.categories, default=0) + 1
    header.categories[free] = JsonCategory(free, name, False, None)
    return free


def _paint_sound(
    listed: bytes,
    background: int | None,
    stated: tuple[int, int],
    size: tuple[int, int],
    faults: list[Fault],
) -> PanopticLabels | None:
    """`paint`, unless the image is of another size than its regions."""
    return paint(listed, background, size, faults) if stated == size else None


def _read_regions(header: Header, background: int | None, faults: Faults) -> dict[ImageId, list[bytes]]:
    """The valid annotations of each image, except those of the background, which is what they leave."""
    found: dict[ImageId, list[bytes]] = {}
    for entry in instance_annotations(header, faults):
        if entry["category_id"] == background:
            continue
        listed = [entry["category_id"], bool(entry.get("iscrowd", 0)), entry.get("segmentation")]
        found.setdefault(entry["image_id"], []).append(json.dumps(listed, separators=(",", ":")).encode())
    return found
