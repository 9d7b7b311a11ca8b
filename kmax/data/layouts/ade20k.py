"""ADEChallengeData2016 with its instance annotation, by the recipe of Mask2Former.

Each stuff class of the semantic PNG (0 unlabelled, 1..150) is a segment; over them come the instances (red:
which of the thing classes, from 1; green: number in the image, 0 none). All else is void: unlabelled pixels,
and pixels of thing classes without an instance. A segment's area counts its pixels before later ones cover
them; official evaluation counts with that area.
Source: Mask2Former, prepare_ade20k_pan_seg.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from kmax.config import Ade20k, Category, Dataset
from kmax.data.faults import Fault, Faults, Kind
from kmax.data.formats.coco_panoptic import Segment
from kmax.data.layouts.labelled import Entry, Labels, Split, agrees, files_in, measure, read_png, segment

MAPPING = "categoryMapping.txt"


@dataclass(frozen=True)
class Rules:
    """Category ids of stuff, and those of things in the order of the instance annotation."""

    stuff: frozenset[int]
    things: tuple[int, ...]


def read_masks(
    semantic_path: Path, instance_path: Path, rules: Rules, size: tuple[int, int], faults: list[Fault]
) -> Labels | None:
    """Segments of one pair of PNGs."""
    semantic = read_png(semantic_path, "semantic PNG", ("L",), faults)
    instances = read_png(instance_path, "instance PNG", ("RGB",), faults)
    if semantic is None or instances is None:
        return None
    sizes = [
        agrees(semantic_path, "semantic PNG", semantic, size, faults),
        agrees(instance_path, "instance PNG", instances, size, faults),
    ]
    if not all(sizes):
        return None
    number = len(rules.stuff) + len(rules.things)
    if (highest := int(semantic.max())) > number:
        faults.append((Kind.CATEGORY, f"{semantic_path}: class {highest} is not in 1..{number}"))
    ids = np.zeros(semantic.shape, np.int32)
    segments: list[Segment] = []
    for value, measured in enumerate(measure(semantic, number), start=1):
        if measured[0] and value - 1 in rules.stuff:
            segments.append(segment(len(segments) + 1, value - 1, measured))
            ids[semantic == value] = len(segments)
    kinds, numbers = instances[..., 0], instances[..., 1]
    for value, measured in enumerate(measure(numbers, 255), start=1):
        if not measured[0]:
            continue
        mask = numbers == value
        found = np.unique(kinds[mask]).tolist()
        if len(found) > 1 or not 1 <= found[0] <= len(rules.things):
            told = f"instance {value} is of the classes {found}, not of one in 1..{len(rules.things)}"
            faults.append((Kind.CATEGORY, f"{instance_path}: {told}"))
            continue
        segments.append(segment(len(segments) + 1, rules.things[found[0] - 1], measured))
        ids[mask] = len(segments)
    return Labels(segments, ids)


class Ade20kLayout:
    """Images, semantic PNGs and instance PNGs of the same names."""

    def __init__(self, dataset: Dataset, source: Ade20k, root: Path) -> None:
        assert dataset.categories is not None
        self._source, self._root = source, root
        self.categories: list[Category] = dataset.categories
        self._compared = False
        mapping = root / MAPPING
        self.shared_files = [mapping] if mapping.is_file() else []

    def split(self, name: str, faults: Faults) -> Split:
        """Open a split."""
        files = self._source.splits[name]
        images_dir, semantic_dir = self._root / files.images, self._root / files.semantic
        instance_dir = self._root / (files.instances or "annotations_instance")
        images = files_in(images_dir, "*.jpg", "folder of images")
        semantic = files_in(semantic_dir, "*.png", "folder of semantic PNGs")
        instances = files_in(instance_dir, "*.png", "folder of instance PNGs")
        names = sorted(images | semantic | instances)
        if not names:
            faults.add(Kind.SPLITS, f"{images_dir}: no images (*.jpg)")
        rules = Rules(
            frozenset(c.id for c in self.categories if not c.isthing),
            tuple(sorted(c.id for c in self.categories if c.isthing)),
        )
        if not self._compared:  # once for all splits
            for path in self.shared_files:
                _compare_mapping(path, rules.things, faults)
            self._compared = True

        def entries() -> Iterator[Entry]:
            for position, stem in enumerate(names):
                labels = semantic_dir / f"{stem}.png", instance_dir / f"{stem}.png"
                yield Entry(
                    position=position,
                    image_id=stem,
                    file_name=f"{stem}.jpg",
                    images_dir=images_dir,
                    png_name=f"{stem}.png",
                    label_files=labels,
                    size=None,
                    read=partial(read_masks, *labels, rules),
                )

        return Split(name, files.images, len(names), entries())


def _compare_mapping(path: Path, things: tuple[int, ...], faults: Faults) -> None:
    """Add where the file that comes with the instance annotation maps its classes to others than ours."""
    lines = path.read_text(errors="replace").splitlines()[1:]  # a class stands on several lines
    found = {tuple(line.split()[:2]) for line in lines if line.strip()}
    wanted = {(str(i), str(thing + 1)) for i, thing in enumerate(things, start=1)}
    if strange := sorted(found - wanted) or sorted(wanted - found):
        pair = " to ".join(strange[0])
        told = f"{len(found ^ wanted)} entries disagree with the dataset file, such as {pair}"
        faults.add(Kind.CATEGORY, f"{path}: instance class to class: {told}")
