"""Cityscapes as it is downloaded: 16-bit maps of instance ids, by the rules of its official scripts.

A pixel of a thing holds 1000 * label + number, any other its label. What has the plain label of a thing is a
group, one crowd segment; labels that are not evaluated are void. The segment id is the value itself.
Source: cityscapesscripts, createPanopticImgs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from kmax.config import Category, Cityscapes, Dataset
from kmax.data.faults import Fault, Faults, Kind
from kmax.data.layouts.labelled import Entry, Labels, Split, agrees, files_in, measure, read_png, segment

LABELS = range(34)  # from 'unlabeled' to 'bicycle'; 'license plate' (-1) is never drawn
INSTANCES_OF_ONE_LABEL = 1000
IMAGE, ANNOTATION = "_leftImg8bit", "_gtFine_instanceIds"


@dataclass(frozen=True)
class Rules:
    """Whether each evaluated label is a thing."""

    isthing: dict[int, bool]


def read_instance_ids(path: Path, rules: Rules, size: tuple[int, int], faults: list[Fault]) -> Labels | None:
    """Segments of one `*_gtFine_instanceIds.png`."""
    values = read_png(path, "map of instance ids", ("I;16", "I", "L"), faults)
    if values is None or not agrees(path, "map of instance ids", values, size, faults):
        return None
    values = values.astype(np.int64)
    present = np.flatnonzero(np.bincount(values.ravel())).tolist()
    label_of = {v: v if v < INSTANCES_OF_ONE_LABEL else v // INSTANCES_OF_ONE_LABEL for v in present}
    if strange := sorted({label for label in label_of.values() if label not in LABELS}):
        faults.append((Kind.CATEGORY, f"{path}: labels {strange} are not of Cityscapes (0..{LABELS[-1]})"))
    kept = [value for value in present if label_of[value] in rules.isthing]
    index_of = np.zeros(max(present) + 1, np.int32)
    index_of[kept] = np.arange(1, len(kept) + 1)
    index = index_of[values]
    segments = [
        segment(
            value,
            label_of[value],
            measured,
            iscrowd=rules.isthing[label_of[value]] and value < INSTANCES_OF_ONE_LABEL,
        )
        for value, measured in zip(kept, measure(index, len(kept)), strict=True)
    ]
    return Labels(segments, np.array([0, *kept], np.int32)[index])


class CityscapesLayout:
    """A folder per city of images, and of annotation."""

    def __init__(self, dataset: Dataset, source: Cityscapes, root: Path) -> None:
        assert dataset.categories is not None
        self._source, self._root = source, root
        self.categories: list[Category] = dataset.categories
        self.shared_files: list[Path] = []

    def split(self, name: str, faults: Faults) -> Split:
        """Open a split."""
        files = self._source.splits[name]
        images_dir, annotations_dir = self._root / files.images, self._root / files.annotations
        images = files_in(images_dir, f"*/*{IMAGE}.png", "folder of images")
        annotations = files_in(annotations_dir, f"*/*{ANNOTATION}.png", "folder of annotation")
        frames = {key.removesuffix(IMAGE) for key in images}
        frames |= {key.removesuffix(ANNOTATION) for key in annotations}
        if not frames:
            faults.add(Kind.SPLITS, f"{images_dir}: no images (*/*{IMAGE}.png)")
        rules = Rules({category.id: category.isthing for category in self.categories})

        def entries() -> Iterator[Entry]:
            for position, frame in enumerate(sorted(frames)):
                labels = annotations_dir / f"{frame}{ANNOTATION}.png"
                yield Entry(
                    position=position,
                    image_id=Path(frame).name,
                    file_name=f"{frame}{IMAGE}.png",
                    images_dir=images_dir,
                    png_name=f"{Path(frame).name}_gtFine_panoptic.png",
                    label_files=(labels,),
                    size=None,
                    read=partial(read_instance_ids, labels, rules),
                )

        return Split(name, files.images, len(frames), entries())
