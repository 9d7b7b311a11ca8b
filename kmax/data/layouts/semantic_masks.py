"""Folders of label PNGs: category ids, and optionally instance numbers.

Stuff: one segment per class. Things: one per class and instance number; pixels with number 0 are
a crowd, whose instances are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from kmax.config import Category
from kmax.data.faults import Fault, FaultKind, Faults
from kmax.data.formats.image_file import SUFFIXES
from kmax.data.layouts.label_reading import (
    areas_and_boxes,
    faults_once,
    files_in,
    has_size,
    images_of_split,
    read_png,
    segment,
)
from kmax.data.layouts.layout import ImageRecord, MaskFiles, PanopticLabels, RawFiles, RawSplit

GREY = ("L", "P", "I;16", "I", "1")
IMAGES = set(SUFFIXES)


class SemanticMasks(RawFiles):
    """Grey PNGs of category ids, and optionally of instance numbers (0: none)."""

    kind: Literal["semantic_masks"]
    splits: dict[str, MaskFiles]
    void: Annotated[int, Field(ge=0)] = Field(description="the value of pixels without a label")

    def annotation_paths(self) -> list[str]:
        """The folders of semantic PNGs."""
        return [split.semantic for split in self.splits.values()]

    def reader(
        self, root: Path, categories: list[Category] | None, dataset_file: Path
    ) -> SemanticMasksReader:
        """Open the files."""
        assert categories is not None
        return SemanticMasksReader(self, root, categories)


@dataclass(frozen=True)
class MaskClasses:
    """Whether each category is a thing, and the value of pixels without a label."""

    isthing: dict[int, bool]
    void: int


def read_masks(
    semantic_path: Path,
    instance_path: Path | None,
    classes: MaskClasses,
    size: tuple[int, int],
    faults: list[Fault],
) -> PanopticLabels | None:
    """Segments of one image; their ids count from 1, by class and then by number."""
    semantic = read_png(semantic_path, "semantic PNG", GREY, faults)
    if semantic is None or not has_size(semantic_path, "semantic PNG", semantic, size, faults):
        return None
    semantic = semantic.astype(np.int64)
    numbers = np.zeros_like(semantic)
    if instance_path is not None:
        instances = read_png(instance_path, "instance PNG", GREY, faults)
        if instances is None or not has_size(instance_path, "instance PNG", instances, size, faults):
            return None
        isthing = np.isin(semantic, [category for category, thing in classes.isthing.items() if thing])
        numbers = np.where(isthing, instances, 0).astype(np.int64)
    present = set(np.unique(semantic).tolist())
    if strange := sorted(present - classes.isthing.keys() - {classes.void}):
        faults.append((FaultKind.CATEGORY, f"{semantic_path}: values {strange[:10]} are not category ids"))
    labelled = np.isin(semantic, list(classes.isthing))
    pairs, position = np.unique((semantic << 32) + numbers, return_inverse=True)
    kept = [
        int(pair)
        for pair in pairs
        if (int(pair) >> 32) in classes.isthing and int(pair) >> 32 != classes.void
    ]
    index_of = np.zeros(len(pairs), np.int32)
    index_of[np.isin(pairs, kept)] = np.arange(1, len(kept) + 1)
    ids = np.where(labelled, index_of[position.reshape(semantic.shape)], 0).astype(np.int32)
    segments = [
        segment(i, pair >> 32, measured, iscrowd=classes.isthing[pair >> 32] and pair & 0xFFFFFFFF == 0)
        for i, (pair, measured) in enumerate(zip(kept, areas_and_boxes(ids, len(kept)), strict=True), start=1)
    ]
    return PanopticLabels(segments, ids)


class SemanticMasksReader:
    """Images, semantic PNGs and instance PNGs of the same names, at any depth."""

    def __init__(self, source: SemanticMasks, root: Path, categories: list[Category]) -> None:
        self._source, self._root = source, root
        self.categories = categories
        self.shared_files: list[Path] = []

    def split(self, name: str, faults: Faults) -> RawSplit:
        """Open a split."""
        holdout = self._source.holdout
        files = self._source.splits["train" if holdout else name]
        images_dir, semantic_dir = self._root / files.images, self._root / files.semantic
        images = image_files(images_dir)
        masks = files_in(semantic_dir, "**/*.png", "folder of semantic PNGs")
        orphans = faults_once(faults, name, holdout)
        for stem in sorted(masks.keys() - images.keys()):
            orphans.add(
                FaultKind.ORPHAN, f"{semantic_dir / masks[stem]}: no image of this name in {images_dir}"
            )
        stems = images_of_split(images, name, holdout)
        if not stems:
            faults.add(FaultKind.SPLITS, f"{images_dir}: no images for the split '{name}'")
        classes = MaskClasses({c.id: c.isthing for c in self.categories}, self._source.void)

        def records() -> Iterator[ImageRecord]:
            for position, stem in enumerate(sorted(stems)):
                semantic = semantic_dir / f"{stem}.png"
                instances = self._root / files.instances / f"{stem}.png" if files.instances else None
                yield ImageRecord(
                    position=position,
                    image_id=stem,
                    file_name=images[stem],
                    images_dir=images_dir,
                    png_name=f"{stem}.png",
                    label_files=(semantic, instances) if instances else (semantic,),
                    size=None,
                    read=partial(read_masks, semantic, instances, classes),
                )

        return RawSplit(name, files.images, len(stems), records())


def image_files(folder: Path) -> dict[str, str]:
    """Names of the images in a folder, at any depth, by name without suffix."""
    found = files_in(folder, "**/*.*", "folder of images")
    return {stem: name for stem, name in found.items() if Path(name).suffix.lower() in IMAGES}
