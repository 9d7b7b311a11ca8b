"""The layout of a dataset, by the kind that its file states."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kmax.config import Ade20k, Cityscapes, CocoInstances, CocoPanoptic, Dataset, RawFiles, SemanticMasks
from kmax.data.faults import Faults
from kmax.data.layouts.ade20k import Ade20kLayout
from kmax.data.layouts.cityscapes import CityscapesLayout
from kmax.data.layouts.coco_instances import CocoInstancesLayout
from kmax.data.layouts.coco_panoptic_layout import CocoPanopticLayout
from kmax.data.layouts.labelled import Layout
from kmax.data.layouts.semantic_masks import SemanticMasksLayout
from kmax.errors import InputError


def open_layout(dataset: Dataset, root: Path) -> Layout:
    """The layout of a dataset whose raw files lie below `root`."""
    match dataset.source:
        case CocoPanoptic() as source:
            return CocoPanopticLayout(dataset, source, root)
        case CocoInstances() as source:
            return CocoInstancesLayout(dataset, source, root)
        case Cityscapes() as source:
            return CityscapesLayout(dataset, source, root)
        case Ade20k() as source:
            return Ade20kLayout(dataset, source, root)
        case SemanticMasks() as source:
            return SemanticMasksLayout(dataset, source, root)
        case source:
            raise ValueError(f"a dataset of the kind {source.kind} has no raw files")


def split_names(source: RawFiles) -> list[str]:
    """The splits of a dataset, with the one that is held out."""
    return ["train", "val"] if source.holdout else list(getattr(source, "splits", {}))


def raw_files(dataset: Dataset, root: Path, faults: list[str]) -> Iterator[Path]:
    """Every file that preparing a dataset reads, whether or not it is there.

    Args:
        faults: takes a line for each JSON or folder that is missing or unreadable.
    """
    assert isinstance(dataset.source, RawFiles)
    layout = open_layout(dataset, root)
    yield from layout.shared_files
    for name in split_names(dataset.source):
        try:
            for entry in layout.split(name, Faults()).entries:
                yield entry.images_dir / entry.file_name
                yield from entry.label_files
        except InputError as error:
            faults += error.faults
