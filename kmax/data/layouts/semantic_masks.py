"""Folders of label PNGs: category ids, and optionally instance numbers.

Stuff: one segment per class. Things: one per class and instance number; pixels with number 0 are
a crowd, whose instances are not counted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
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
    by_stem,
    faults_once,
    has_size,
    images_of_split,
    listed,
    read_png,
    segment,
)
from kmax.data.layouts.layout import ImageRecord, MaskFiles, PanopticLabels, RawFiles, RawSplit
from kmax.folders import FolderFiles, Reason

GREY = ("L", "P", "I;16", "I", "1")
IMAGES = set(SUFFIXES)


class SemanticMasks(RawFiles):
    """Grey PNGs of category ids, and optionally of instance numbers (0: none)."""

    kind: Literal["semantic_masks"]
    splits: dict[str, MaskFiles]
    void: Annotated[int, Field(ge=0)] | None = Field(
        description="the value of pixels without a label; null: every pixel has one"
    )

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
    void: int | None


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
        shared = faults_once(faults, name, holdout)
        images_dir = self._root / files.images
        found = list_masks(
            images_dir,
            self._root / files.semantic,
            self._root / files.instances if files.instances else None,
            shared,
        )
        for stem in sorted(found.semantic.keys() - found.images.keys()):
            path = found.semantic_dir / found.semantic[stem]
            shared.add(FaultKind.ORPHAN, f"{path}: no image of this name in {images_dir}")
        stems = images_of_split(found.images, name, holdout, images_dir, faults)
        if not found.images:
            faults.add(FaultKind.SPLITS, f"{images_dir}: no images for the split '{name}'")
        classes = MaskClasses({c.id: c.isthing for c in self.categories}, self._source.void)

        def records() -> Iterator[ImageRecord]:
            for position, stem in enumerate(sorted(stems)):
                semantic, instances = found.labels_of(stem)
                yield ImageRecord(
                    position=position,
                    image_id=stem,
                    file_name=found.images[stem],
                    images_dir=images_dir,
                    png_name=f"{stem}.png",
                    label_files=(semantic, instances) if instances else (semantic,),
                    size=None,
                    read=partial(read_masks, semantic, instances, classes),
                )

        return RawSplit(name, files.images, len(stems), records())


@dataclass(frozen=True)
class MaskNames:
    """Names of images and of label PNGs, each relative to its folder, by name without suffix."""

    images: dict[str, str]
    semantic_dir: Path
    semantic: dict[str, str]
    instance_dir: Path | None
    instances: dict[str, str]

    def labels_of(self, stem: str) -> tuple[Path, Path | None]:
        """The semantic and the instance PNG of an image, whether or not they exist."""
        semantic = self.semantic_dir / self.semantic.get(stem, f"{stem}.png")
        if self.instance_dir is None:
            return semantic, None
        return semantic, self.instance_dir / self.instances.get(stem, f"{stem}.png")


def list_masks(images_dir: Path, semantic_dir: Path, instance_dir: Path | None, faults: Faults) -> MaskNames:
    """List the images and the label PNGs of a split.

    Images and labels may share one folder: PNGs are the labels then. Folders of labels inside the folder of
    images contain no images.

    Raises:
        InputError: a folder does not exist or cannot be read.
    """
    semantic = label_files(semantic_dir, "semantic PNG", images_dir, faults)
    instances: dict[str, str] = {}
    label_dirs = [semantic_dir]
    if instance_dir is not None:
        instances = label_files(instance_dir, "instance PNG", images_dir, faults)
        label_dirs.append(instance_dir)
    images = image_files(images_dir, label_dirs, faults)
    return MaskNames(images, semantic_dir, semantic, instance_dir, instances)


def label_files(folder: Path, what: str, images_dir: Path, faults: Faults) -> dict[str, str]:
    """Names of the label PNGs in a folder, at any depth, by name without suffix; `what` is such a file."""
    shared = images_dir.is_dir() and folder.is_dir() and folder.samefile(images_dir)
    except_for = [Reason.TYPE] if shared else []
    found = listed(folder, {".png"}, f"folder of {what}s", faults, except_for=except_for)
    return by_stem(found, what, faults)


def image_files(folder: Path, label_dirs: Sequence[Path], faults: Faults) -> dict[str, str]:
    """Names of the images in a folder, at any depth, by name without suffix.

    Args:
        label_dirs: folders of label PNGs, whose PNGs are not images.
    """
    return by_stem(list_images(folder, label_dirs, faults), "image", faults)


def list_images(folder: Path, label_dirs: Sequence[Path], faults: Faults) -> FolderFiles:
    """The images in a folder; as `image_files`."""
    found = listed(folder, IMAGES, "folder of images", faults)
    inside = folder.resolve()
    real = [path.resolve() for path in label_dirs]
    real = [path for path in real if path == inside or not inside.is_relative_to(path)]
    folders = {name: (folder / name).resolve() for name in {os.path.dirname(name) for name in found.names}}

    def is_label(name: str) -> bool:
        parent = folders[os.path.dirname(name)]
        return name.lower().endswith(".png") and any(parent.is_relative_to(one) for one in real)

    return FolderFiles(folder, [name for name in found.names if not is_label(name)])
