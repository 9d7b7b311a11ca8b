"""Folders of label PNGs: category ids, and optionally instance numbers.

Stuff: one segment per class. Things: one per class and instance number; where the number is 0, their pixels
are a crowd, of which nobody counted the instances.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from kmax.config import Category, Dataset, SemanticMasks
from kmax.data.faults import Fault, Faults, Kind
from kmax.data.layouts.labelled import (
    Entry,
    Labels,
    Split,
    agrees,
    files_in,
    measure,
    of_split,
    read_png,
    segment,
    told_once,
)

GREY = ("L", "P", "I;16", "I", "1")
IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Rules:
    """Whether each category is a thing, and the value of pixels without a label."""

    isthing: dict[int, bool]
    void: int


def read_masks(
    semantic_path: Path,
    instance_path: Path | None,
    rules: Rules,
    size: tuple[int, int],
    faults: list[Fault],
) -> Labels | None:
    """Segments of one image; their ids count from 1, by class and then by number."""
    semantic = read_png(semantic_path, "semantic PNG", GREY, faults)
    if semantic is None or not agrees(semantic_path, "semantic PNG", semantic, size, faults):
        return None
    semantic = semantic.astype(np.int64)
    numbers = np.zeros_like(semantic)
    if instance_path is not None:
        instances = read_png(instance_path, "instance PNG", GREY, faults)
        if instances is None or not agrees(instance_path, "instance PNG", instances, size, faults):
            return None
        isthing = np.isin(semantic, [category for category, thing in rules.isthing.items() if thing])
        numbers = np.where(isthing, instances, 0).astype(np.int64)
    present = set(np.unique(semantic).tolist())
    if strange := sorted(present - rules.isthing.keys() - {rules.void}):
        faults.append((Kind.CATEGORY, f"{semantic_path}: values {strange[:10]} are no categories"))
    labelled = np.isin(semantic, list(rules.isthing))
    pairs, position = np.unique((semantic << 32) + numbers, return_inverse=True)
    kept = [
        int(pair) for pair in pairs if (int(pair) >> 32) in rules.isthing and int(pair) >> 32 != rules.void
    ]
    index_of = np.zeros(len(pairs), np.int32)
    index_of[np.isin(pairs, kept)] = np.arange(1, len(kept) + 1)
    ids = np.where(labelled, index_of[position.reshape(semantic.shape)], 0).astype(np.int32)
    segments = [
        segment(i, pair >> 32, measured, iscrowd=rules.isthing[pair >> 32] and pair & 0xFFFFFFFF == 0)
        for i, (pair, measured) in enumerate(zip(kept, measure(ids, len(kept)), strict=True), start=1)
    ]
    return Labels(segments, ids)


class SemanticMasksLayout:
    """Images, semantic PNGs and instance PNGs of the same names, at any depth."""

    def __init__(self, dataset: Dataset, source: SemanticMasks, root: Path) -> None:
        assert dataset.categories is not None
        self._source, self._root = source, root
        self._dataset = dataset.dataset
        self.categories: list[Category] = dataset.categories
        self.shared_files: list[Path] = []

    def split(self, name: str, faults: Faults) -> Split:
        """Open a split."""
        every = self._source.holdout
        files = self._source.splits["train" if every else name]
        images_dir, semantic_dir = self._root / files.images, self._root / files.semantic
        images = image_files(images_dir)
        masks = files_in(semantic_dir, "**/*.png", "folder of semantic PNGs")
        orphans = told_once(faults, name, every)
        for stem in sorted(masks.keys() - images.keys()):
            orphans.add(Kind.ORPHAN, f"{semantic_dir / masks[stem]}: no image of this name in {images_dir}")
        stems = of_split(images, name, every)
        if not stems:
            faults.add(Kind.SPLITS, f"{images_dir}: no images for the split '{name}'")
        rules = Rules({c.id: c.isthing for c in self.categories}, self._source.void)

        def entries() -> Iterator[Entry]:
            for position, stem in enumerate(sorted(stems)):
                semantic = semantic_dir / f"{stem}.png"
                instances = self._root / files.instances / f"{stem}.png" if files.instances else None
                yield Entry(
                    position=position,
                    image_id=stem,
                    file_name=images[stem],
                    images_dir=images_dir,
                    png_name=f"{stem}.png",
                    label_files=(semantic, instances) if instances else (semantic,),
                    size=None,
                    read=partial(read_masks, semantic, instances, rules),
                )

        return Split(name, files.images, len(stems), entries())


def image_files(folder: Path) -> dict[str, str]:
    """Names of the images in a folder, at any depth, by name without suffix."""
    found = files_in(folder, "**/*.*", "folder of images")
    return {stem: name for stem, name in found.items() if Path(name).suffix.lower() in IMAGES}
