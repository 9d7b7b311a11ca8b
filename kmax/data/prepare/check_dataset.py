"""All faults of a dataset, file by file: `check` does not stop at the first."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

from kmax import paths
from kmax.config import Category
from kmax.data.dataset_file import Dataset, load_dataset, open_layout, require_raw_root
from kmax.data.datasets import open_prepared
from kmax.data.faults import Fault, FaultKind, Faults
from kmax.data.formats.coco_panoptic import Segment
from kmax.data.formats.image_file import UPRIGHT, UnreadableImageError, load_image, read_image_file
from kmax.data.label_findings import LabelCounts, TrainingLabels, warn_of_names
from kmax.data.layouts.coco_panoptic_layout import CocoPanoptic, SplitFiles
from kmax.data.layouts.layout import ImageRecord, PanopticLabels, RawFiles
from kmax.data.layouts.semantic_masks import SemanticMasks
from kmax.errors import InputError
from kmax.processes.parallel import map_items

TRAIN = "train"  # the split that a network learns from
_PNG, _BIT_DEPTH = b"\x89PNG\r\n\x1a\n", 24
_DEEP_MODES = ("I", "F")


def check(name: str, workers: int | None = None) -> Faults:
    """All faults of a dataset.

    The raw files are checked; for a generated dataset, the prepared folder.

    Args:
        workers: number of reader processes; None: one per core.

    Raises:
        InputError: unknown dataset, or no data to check.
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
    names = dataset.source.split_names()
    if not names:
        faults.add(FaultKind.SPLITS, f"{paths.dataset_file(dataset.dataset)}: no splits")
    reader = open_layout(dataset, root)
    counts = LabelCounts()
    for name in names:
        try:
            split = reader.split(name, faults)
            task = f"checking {dataset.dataset}/{name}"
            for found, labels in map_items(_examined, split.records, task, workers, split.total):
                faults.update(found)
                if labels is not None and name == TRAIN:
                    counts.add(*labels)
        except InputError as error:
            faults.update((FaultKind.SPLITS, line) for line in error.faults)
    report_labels(dataset, root, reader.categories, counts, faults)
    return faults


def report_labels(
    dataset: Dataset, root: Path, categories: list[Category], counts: LabelCounts, faults: Faults
) -> None:
    """Add what is unusual about the categories of a dataset.

    Nothing is said about the categories of published datasets, which are downloaded.

    Args:
        root: folder of its files.
        counts: of its training split; without pixels if there is no such split, or no image can be read.
    """
    source = dataset.source
    assert isinstance(source, RawFiles)
    of_split = dict(zip(source.splits, source.annotation_paths(), strict=True))
    annotation = str(root / of_split.get(TRAIN, min(of_split.values(), default="")))
    listed_in = annotation if dataset.categories is None else str(paths.dataset_file(dataset.dataset))
    if not source.files:
        warn_of_names(categories, listed_in, faults)
    if not counts.pixels:
        return
    advice = "correct the annotation"
    void = source.void if isinstance(source, SemanticMasks) else None
    if void is not None and counts.labelled < counts.pixels:
        share = 1 - counts.labelled / counts.pixels
        note = f"{void} is taken as void (no label): {share:.1%} of the pixels for training"
        faults.warn(f"{annotation}: {note}")
        advice = f"if {void} is a class, change 'void' in {paths.dataset_file(dataset.dataset)}"
    labels = TrainingLabels(categories, counts, annotation, advice)
    if labels.require_learnable(faults) and not source.files:
        labels.warn_of_unused(faults)


def _examined(record: ImageRecord) -> tuple[list[Fault], tuple[list[Segment], int] | None]:
    """Faults of an image; its segments and its number of pixels, None if either file cannot be read."""
    faults: list[Fault] = []
    found = examine(record, faults)
    return faults, None if found is None else (found[0].segments, math.prod(found[1]))


def examine(
    record: ImageRecord, faults: list[Fault]
) -> tuple[PanopticLabels, tuple[int, int], int, str] | None:
    """Read one image and its labels.

    Returns:
        Its labels; (width, height), bytes and SHA-256 of the image; None if either cannot be read.
    """
    image = check_image(record.images_dir / record.file_name, record.size, faults)
    size = image[0] if image else record.size
    labels = record.read(size, faults) if size else None
    if labels is not None and not labels.segments:
        faults.append((FaultKind.EMPTY, f"{record.images_dir / record.file_name}: image has no segments"))
    return None if image is None or labels is None else (labels, *image)


def check_image(
    path: Path, stated: tuple[int, int] | None, faults: list[Fault]
) -> tuple[tuple[int, int], int, str] | None:
    """Read an image, and add its faults: it must be complete, of the stated size, of 8 bits, and not rotated.

    Args:
        stated: (width, height) according to its annotation; None: not stated.

    Returns:
        (width, height) as stored, bytes, SHA-256; None if it cannot be read.
    """
    try:
        data = read_image_file(path)
        image = load_image(path, data=data, check_only=True)
    except UnreadableImageError as error:
        faults.append((FaultKind.MISSING if error.missing else FaultKind.UNREADABLE, str(error)))
        return None
    size, rotated = image.size, image.orientation != UPRIGHT
    deep_png = data.startswith(_PNG) and data[_BIT_DEPTH] > 8
    if deep_png or image.mode.split(";")[0] in _DEEP_MODES:
        faults.append(
            (FaultKind.DEPTH, f"{path}: image has more than 8 bits per channel; convert it to 8 bits")
        )
    if stated is not None and size != stated:
        line = f"{path}: image is {size[0]}x{size[1]}, the JSON says {stated[0]}x{stated[1]}"
        if rotated and size == stated[::-1]:
            line += ", which is its size after applying its EXIF rotation; save it rotated, without the tag"
        faults.append((FaultKind.SIZE, line))
    elif rotated:
        faults.append((FaultKind.ROTATED, f"{path}: has an EXIF rotation, which is ignored"))
    return size, len(data), hashlib.sha256(data).hexdigest()
