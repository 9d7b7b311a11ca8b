"""Every fault of a dataset, file by file: `check` never stops at the first."""

from __future__ import annotations

from pathlib import Path

from kmax import paths
from kmax.config import CocoPanoptic, Dataset, RawFiles, SplitFiles
from kmax.data.datasets import load_dataset, open_prepared, require_raw_root
from kmax.data.faults import Fault, Faults, Kind
from kmax.data.formats.image_check import check_image
from kmax.data.layouts.labelled import Entry, Labels
from kmax.data.layouts.open import open_layout, split_names
from kmax.errors import InputError
from kmax.parallel import map_items


def check(name: str, workers: int | None = None) -> Faults:
    """All faults of a dataset.

    It is checked where its raw files lie, a generated one in its prepared folder.

    Args:
        workers: processes that read; None: one per core.

    Raises:
        InputError: unknown dataset, or there is no data to check.
    """
    dataset = load_dataset(name)
    if isinstance(dataset.source, RawFiles):
        return check_files(dataset, require_raw_root(dataset), workers)
    folder = paths.prepared(name)
    splits = {
        split.name: SplitFiles(
            images=str(split.images_dir.relative_to(folder)),
            panoptic_json=str(split.panoptic_json.relative_to(folder)),
            panoptic_dir=str(split.panoptic_dir.relative_to(folder)),
        )
        for split in open_prepared(name).splits.values()
    }
    source = CocoPanoptic(kind="coco_panoptic", root=str(folder), folder=name, files=[], splits=splits)
    return check_files(dataset.model_copy(update={"source": source}), folder, workers)


def check_files(dataset: Dataset, root: Path, workers: int | None = None) -> Faults:
    """All faults of the files below `root`."""
    assert isinstance(dataset.source, RawFiles)
    faults = Faults()
    names = split_names(dataset.source)
    if not names:
        faults.add(Kind.SPLITS, f"{paths.dataset_file(dataset.dataset)}: no splits")
    layout = open_layout(dataset, root)
    for name in names:
        try:
            split = layout.split(name, faults)
            task = f"checking {dataset.dataset}/{name}"
            for found in map_items(_faults_of, split.entries, task, workers, split.total):
                faults.update(found)
        except InputError as error:
            faults.update((Kind.SPLITS, line) for line in error.faults)
    return faults


def _faults_of(entry: Entry) -> list[Fault]:
    faults: list[Fault] = []
    examine(entry, faults)
    return faults


def examine(entry: Entry, faults: list[Fault]) -> tuple[Labels, tuple[int, int], int, str] | None:
    """Read one image and its labels.

    Returns:
        Its labels; (width, height), bytes and SHA-256 of the image; None where either cannot be read.
    """
    image = check_image(entry.images_dir / entry.file_name, entry.size, faults)
    size = image[0] if image else entry.size
    labels = entry.read(size, faults) if size else None
    if labels is not None and not labels.segments:
        faults.append((Kind.EMPTY, f"{entry.images_dir / entry.file_name}: image has no segments"))
    return None if image is None or labels is None else (labels, *image)
