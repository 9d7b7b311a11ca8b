"""ADEChallengeData2016 with its instance annotation, by the recipe of Mask2Former.

Each stuff class of the semantic PNG (0 unlabelled, 1..150) is a segment; over them come the instances (red:
which of the thing classes, from 1; green: number in the image, 0 none). Void are unlabelled pixels
and pixels of thing classes without an instance. A segment's area counts its pixels before later ones cover
them; official evaluation counts with that area.
Source: Mask2Former, prepare_ade20k_pan_seg.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from kmax.config import Category
from kmax.data.faults import Fault, FaultKind, Faults
from kmax.data.formats.coco_panoptic import Segment
from kmax.data.layouts.label_reading import areas_and_boxes, by_stem, has_size, listed, read_png, segment
from kmax.data.layouts.layout import ImageRecord, MaskFiles, PanopticLabels, RawFiles, RawSplit

MAPPING = "categoryMapping.txt"


class Ade20k(RawFiles):
    """ADEChallengeData2016 with its instance annotation, as they are downloaded."""

    kind: Literal["ade20k"]
    splits: dict[str, MaskFiles]

    def annotation_paths(self) -> list[str]:
        """The folders of semantic PNGs."""
        return [split.semantic for split in self.splits.values()]

    def reader(self, root: Path, categories: list[Category] | None, dataset_file: Path) -> Ade20kReader:
        """Open the files."""
        assert categories is not None
        return Ade20kReader(self, root, categories)


@dataclass(frozen=True)
class Ade20kClasses:
    """Category ids of stuff, and those of things in the order of the instance annotation."""

    stuff: frozenset[int]
    things: tuple[int, ...]


def read_masks(
    semantic_path: Path,
    instance_path: Path,
    classes: Ade20kClasses,
    size: tuple[int, int],
    faults: list[Fault],
) -> PanopticLabels | None:
    """Segments of one pair of PNGs."""
    semantic = read_png(semantic_path, "semantic PNG", ("L",), faults)
    instances = read_png(instance_path, "instance PNG", ("RGB",), faults)
    if semantic is None or instances is None:
        return None
    sizes = [
        has_size(semantic_path, "semantic PNG", semantic, size, faults),
        has_size(instance_path, "instance PNG", instances, size, faults),
    ]
    if not all(sizes):
        return None
    number = len(classes.stuff) + len(classes.things)
    if (highest := int(semantic.max())) > number:
        faults.append((FaultKind.CATEGORY, f"{semantic_path}: class {highest} is not in 1..{number}"))
    ids = np.zeros(semantic.shape, np.int32)
    segments: list[Segment] = []
    for value, measured in enumerate(areas_and_boxes(semantic, number), start=1):
        if measured[0] and value - 1 in classes.stuff:
            segments.append(segment(len(segments) + 1, value - 1, measured))
            ids[semantic == value] = len(segments)
    thing_classes, numbers = instances[..., 0], instances[..., 1]
    for value, measured in enumerate(areas_and_boxes(numbers, 255), start=1):
        if not measured[0]:
            continue
        mask = numbers == value
        found = np.unique(thing_classes[mask]).tolist()
        if len(found) > 1 or not 1 <= found[0] <= len(classes.things):
            wrong = f"instance {value} has the classes {found}, expected one in 1..{len(classes.things)}"
            faults.append((FaultKind.CATEGORY, f"{instance_path}: {wrong}"))
            continue
        segments.append(segment(len(segments) + 1, classes.things[found[0] - 1], measured))
        ids[mask] = len(segments)
    return PanopticLabels(segments, ids)


class Ade20kReader:
    """Images, semantic PNGs and instance PNGs of the same names."""

    def __init__(self, source: Ade20k, root: Path, categories: list[Category]) -> None:
        self._source, self._root = source, root
        self.categories = categories
        self._compared = False
        mapping = root / MAPPING
        self.shared_files = [mapping] if mapping.is_file() else []

    def split(self, name: str, faults: Faults) -> RawSplit:
        """Open a split."""
        files = self._source.splits[name]
        images_dir, semantic_dir = self._root / files.images, self._root / files.semantic
        instance_dir = self._root / (files.instances or "annotations_instance")
        images = _files(images_dir, ".jpg", "image", faults)
        semantic = _files(semantic_dir, ".png", "semantic PNG", faults)
        instances = _files(instance_dir, ".png", "instance PNG", faults)
        names = sorted(images | semantic | instances)
        if not names:
            faults.add(FaultKind.SPLITS, f"{images_dir}: no images (*.jpg)")
        classes = Ade20kClasses(
            frozenset(c.id for c in self.categories if not c.isthing),
            tuple(sorted(c.id for c in self.categories if c.isthing)),
        )
        if not self._compared:  # once for all splits
            for path in self.shared_files:
                _compare_mapping(path, classes.things, faults)
            self._compared = True

        def records() -> Iterator[ImageRecord]:
            for position, stem in enumerate(names):
                png = f"{stem}.png"
                labels = semantic_dir / semantic.get(stem, png), instance_dir / instances.get(stem, png)
                yield ImageRecord(
                    position=position,
                    image_id=stem,
                    file_name=images.get(stem, f"{stem}.jpg"),
                    images_dir=images_dir,
                    png_name=png,
                    label_files=labels,
                    size=None,
                    read=partial(read_masks, *labels, classes),
                )

        return RawSplit(name, files.images, len(names), records())


def _files(folder: Path, ending: str, what: str, faults: Faults) -> dict[str, str]:
    """Names of the files in a folder by name without suffix."""
    return by_stem(listed(folder, {ending}, f"folder of {what}s", faults, deep=False), what, faults)


def _compare_mapping(path: Path, things: tuple[int, ...], faults: Faults) -> None:
    """Add a fault if the file that comes with the instance annotation maps its classes to other classes."""
    lines = path.read_text(errors="replace").splitlines()[1:]  # a class has several lines
    found = {tuple(line.split()[:2]) for line in lines if line.strip()}
    expected = {(str(i), str(thing + 1)) for i, thing in enumerate(things, start=1)}
    if strange := sorted(found - expected) or sorted(expected - found):
        pair = " to ".join(strange[0])
        wrong = f"{len(found ^ expected)} entries disagree with the dataset file, such as {pair}"
        faults.add(FaultKind.CATEGORY, f"{path}: instance class to class: {wrong}")
