"""Cityscapes as it is downloaded: 16-bit maps of instance ids, by the rules of its official scripts.

A pixel of a thing holds 1000 * label + number, any other pixel its label. Pixels with the plain label of a
thing are a group, one crowd segment; labels that are not evaluated are void. The segment id is the value.
Source: cityscapesscripts, createPanopticImgs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from kmax.config import Category, Parameters
from kmax.data.faults import Fault, FaultKind, Faults
from kmax.data.layouts.label_reading import areas_and_boxes, by_stem, has_size, listed, read_png, segment
from kmax.data.layouts.layout import ImageRecord, PanopticLabels, RawFiles, RawSplit
from kmax.folders import FolderFiles, Reason

LABELS = range(34)  # from 'unlabeled' to 'bicycle'; 'license plate' (-1) is never drawn
INSTANCES_OF_ONE_LABEL = 1000
IMAGE, ANNOTATION = "_leftImg8bit", "_gtFine_instanceIds"


class CityscapesFiles(Parameters):
    """The location of one split of Cityscapes below the data root; a folder per city in each."""

    images: str
    annotations: str = Field(description="folder of */*_gtFine_instanceIds.png")


class Cityscapes(RawFiles):
    """Cityscapes as it is downloaded."""

    kind: Literal["cityscapes"]
    splits: dict[str, CityscapesFiles]

    def annotation_paths(self) -> list[str]:
        """The folders of annotation."""
        return [split.annotations for split in self.splits.values()]

    def reader(self, root: Path, categories: list[Category] | None, dataset_file: Path) -> CityscapesReader:
        """Open the files."""
        assert categories is not None
        return CityscapesReader(self, root, categories)


def read_instance_ids(
    path: Path, isthing: dict[int, bool], size: tuple[int, int], faults: list[Fault]
) -> PanopticLabels | None:
    """Segments of one `*_gtFine_instanceIds.png`; `isthing` is keyed by the evaluated labels."""
    values = read_png(path, "map of instance ids", ("I;16", "I", "L"), faults)
    if values is None or not has_size(path, "map of instance ids", values, size, faults):
        return None
    values = values.astype(np.int64)
    present = np.flatnonzero(np.bincount(values.ravel())).tolist()
    label_of = {v: v if v < INSTANCES_OF_ONE_LABEL else v // INSTANCES_OF_ONE_LABEL for v in present}
    if strange := sorted({label for label in label_of.values() if label not in LABELS}):
        faults.append(
            (FaultKind.CATEGORY, f"{path}: labels {strange} are not in Cityscapes (0..{LABELS[-1]})")
        )
    kept = [value for value in present if label_of[value] in isthing]
    index_of = np.zeros(max(present) + 1, np.int32)
    index_of[kept] = np.arange(1, len(kept) + 1)
    index = index_of[values]
    segments = [
        segment(
            value,
            label_of[value],
            measured,
            iscrowd=isthing[label_of[value]] and value < INSTANCES_OF_ONE_LABEL,
        )
        for value, measured in zip(kept, areas_and_boxes(index, len(kept)), strict=True)
    ]
    return PanopticLabels(segments, np.array([0, *kept], np.int32)[index])


class CityscapesReader:
    """A folder per city of images, and of annotation."""

    def __init__(self, source: Cityscapes, root: Path, categories: list[Category]) -> None:
        self._source, self._root = source, root
        self.categories = categories
        self.shared_files: list[Path] = []

    def split(self, name: str, faults: Faults) -> RawSplit:
        """Open a split."""
        files = self._source.splits[name]
        images_dir, annotations_dir = self._root / files.images, self._root / files.annotations
        images = _by_frame(images_dir, IMAGE, "image", faults)
        annotations = _by_frame(annotations_dir, ANNOTATION, "map of instance ids", faults)
        frames = images.keys() | annotations.keys()
        if not frames:
            faults.add(FaultKind.SPLITS, f"{images_dir}: no images (*/*{IMAGE}.png)")
        isthing = {category.id: category.isthing for category in self.categories}

        def records() -> Iterator[ImageRecord]:
            for position, frame in enumerate(sorted(frames)):
                labels = annotations_dir / annotations.get(frame, f"{frame}{ANNOTATION}.png")
                yield ImageRecord(
                    position=position,
                    image_id=Path(frame).name,
                    file_name=images.get(frame, f"{frame}{IMAGE}.png"),
                    images_dir=images_dir,
                    png_name=f"{Path(frame).name}_gtFine_panoptic.png",
                    label_files=(labels,),
                    size=None,
                    read=partial(read_instance_ids, labels, isthing),
                )

        return RawSplit(name, files.images, len(frames), records())


def _by_frame(folder: Path, end: str, what: str, faults: Faults) -> dict[str, str]:
    """Names of the PNGs `<city>/<frame><end>.png` in a folder, by city and frame."""
    found = listed(folder, {f"{end}.png"}, f"folder of {what}s", faults, except_for=[Reason.TYPE])
    names = [name for name in found.names if name.count("/") == 1]
    if others := len(found.names) - len(names):
        faults.warn(f"{folder}: left out: {others} *{end}.png that are not in the folder of a city")
    stems = by_stem(FolderFiles(folder, names), what, faults)
    return {stem[: -len(end)]: name for stem, name in stems.items()}
