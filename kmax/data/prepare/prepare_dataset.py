"""The prepare stage: conversion of all datasets to one canonical format.

`data/prepared/<dataset>/` contains per split `panoptic_<split>.json` and `panoptic_<split>/*.png` in COCO
panoptic format and `files_<split>.csv` with a row per image, and `manifest.json` with categories in class
order, counts and digests. Raw images stay where they are; generated ones are drawn into `images_<split>/`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image as PillowImage

from kmax import paths
from kmax.config import Category
from kmax.data.dataset_file import Dataset, load_dataset, open_layout, require_raw_root
from kmax.data.datasets import MANIFEST_VERSION
from kmax.data.download.download_dataset import raw_record
from kmax.data.faults import Fault, FaultKind, Faults
from kmax.data.formats.coco_panoptic import Annotation, IdMap, Image, map_to_rgb
from kmax.data.label_findings import LabelCounts
from kmax.data.layouts.layout import ImageRecord, RawFiles
from kmax.data.prepare.check_dataset import TRAIN, examine, report_labels
from kmax.data.prepare.prepared_files import Journal, PreparedImage, write_manifest, write_split
from kmax.data.shapes import scenes
from kmax.data.shapes.scenes import Generated
from kmax.errors import InputError
from kmax.files import (
    digest,
    exclusive_lock,
    move_folder,
    remove_leftovers,
    require_writable,
    sha256,
    write_errors,
)
from kmax.processes.parallel import map_items

Item = TypeVar("Item")
Result = tuple[list[Fault], PreparedImage | None]


def prepare(name: str, workers: int | None = None) -> Path:
    """Validate and convert a downloaded dataset, or draw a generated one, and write its prepared folder.

    The work happens in `runs/.prepare/<dataset>/`, which is moved to its place at the end. The next call
    continues an interrupted one, unless the dataset file or the raw manifest has changed since.

    Args:
        workers: processes; the result does not depend on it. None: one per core.

    Returns:
        `data/prepared/<dataset>`.

    Raises:
        InputError: unknown dataset, not downloaded, faulty (all faults), or locked by another process.
    """
    dataset = load_dataset(name)
    record = raw_record(dataset)
    folder = paths.prepared(name)
    for written in (folder.parent, paths.STATE):
        require_writable(written)
    lock = folder.parent / f".{name}.lock"
    with exclusive_lock(lock, f"{folder}: another process is preparing '{name}'; wait for it"):
        remove_leftovers(folder.parent, name)
        work = _work_folder(dataset, record)
        draft = work / "prepared"
        with write_errors(draft):
            draft.mkdir(parents=True, exist_ok=True)
        if isinstance(dataset.source, RawFiles):
            _convert(dataset, dataset.source, record, work, workers)
        else:
            _draw(dataset, dataset.source, work, workers)
        move_folder(draft, folder)
        shutil.rmtree(work.parent, ignore_errors=True)
    return folder


def _work_folder(dataset: Dataset, record: dict[str, Any]) -> Path:
    """The folder of this preparation; folders of others are removed."""
    key = digest([MANIFEST_VERSION, dataset.source.model_dump(), dataset.model_dump()["categories"], record])
    work = paths.preparation(dataset.dataset) / key[:16]
    for other in work.parent.glob("*"):
        if other != work:
            shutil.rmtree(other, ignore_errors=True)
    return work


def _make(
    make: Callable[[Item], Result],
    items: Iterable[Item],
    task: str,
    journal: Journal,
    faults: Faults,
    workers: int | None,
    total: int,
) -> None:
    """Prepare the images missing from the journal, and add them to it."""
    for found, image in map_items(make, items, task, workers, max(0, total - len(journal))):
        faults.update(found)
        if image is not None:
            journal.add(image)


# ------------------------------------------------------------------------------------------------- generated


def _draw(dataset: Dataset, source: Generated, work: Path, workers: int | None) -> None:
    folder = work / "prepared"
    categories = scenes.check_categories(dataset.categories, str(paths.dataset_file(dataset.dataset)))
    splits = {}
    for name, count in source.images.items():
        for part in ("images", "panoptic"):
            with write_errors(folder):
                (folder / f"{part}_{name}").mkdir(exist_ok=True)
        with Journal(work / f"{name}.jsonl") as journal:
            _forget_lost_files(journal, folder / f"panoptic_{name}")
            left = (index for index in range(count) if index not in journal)
            draw = partial(_draw_one, source, name, categories, folder)
            _make(draw, left, f"drawing {dataset.dataset}/{name}", journal, Faults(), workers, count)
            splits[name] = write_split(folder, name, f"images_{name}", journal, categories)
    write_manifest(folder, dataset.dataset, categories, splits)


def _draw_one(source: Generated, split: str, categories: list[Category], folder: Path, index: int) -> Result:
    """Draw one image into the prepared folder; ids count from 1."""
    height, width = source.image_size
    scene = scenes.draw_scene(source.seed, split, index, (height, width), categories)
    name = f"{index:06d}.png"
    path, png = folder / f"images_{split}" / name, folder / f"panoptic_{split}" / name
    with write_errors(path):
        PillowImage.fromarray(scene.rgb).save(path, compress_level=4)
    _write_png(png, scene.ids)
    return [], PreparedImage(
        position=index,
        image=Image(index + 1, name, width, height),
        annotation=Annotation(index + 1, name, scene.segments),
        image_bytes=path.stat().st_size,
        image_sha256=sha256(path),
        label_sha256=[],
        png_bytes=png.stat().st_size,
        png_sha256=sha256(png),
    )


# ------------------------------------------------------------------------------------------------- raw files


def _convert(
    dataset: Dataset, source: RawFiles, record: dict[str, Any], work: Path, workers: int | None
) -> None:
    root = require_raw_root(dataset)
    reader = open_layout(dataset, root)
    recorded = _RecordedChecksums(root, record)
    faults = Faults()
    images_dirs = {}
    for name in source.split_names():
        try:
            split = reader.split(name, faults)
            images_dirs[name] = split.images_dir
            if not split.total and not faults.count():
                faults.add(
                    FaultKind.SPLITS, f"{root / split.images_dir}: no image is left for the split '{name}'"
                )
            target = work / "prepared" / f"panoptic_{name}"
            with Journal(work / f"{name}.jsonl") as journal:
                _forget_lost_files(journal, target)
                left = (
                    (image, recorded.of(image)) for image in split.records if image.position not in journal
                )
                task = f"preparing {dataset.dataset}/{name}"
                make = partial(_convert_one, target, dataset.dataset)
                _make(make, left, task, journal, faults, workers, split.total)
        except InputError as error:
            faults.update((FaultKind.SPLITS, line) for line in error.faults)
    if not faults.count(harmless=False):
        counts = LabelCounts()
        if TRAIN in images_dirs:
            with Journal(work / f"{TRAIN}.jsonl") as journal:
                for image in journal.images():
                    counts.add(image.annotation.segments, image.image.width * image.image.height)
        report_labels(dataset, root, reader.categories, counts, faults)
    faults.print_warnings()
    if faults.count(harmless=False):
        raise InputError(faults.lines(harmless=False))
    if faults.count():
        advice = f"kmax data check {dataset.dataset} lists them"
        print(f"prepared with warnings: {faults.summary()}; {advice}", file=sys.stderr)
    splits = {}
    for name, images_dir in images_dirs.items():
        with Journal(work / f"{name}.jsonl") as journal:
            splits[name] = write_split(work / "prepared", name, images_dir, journal, reader.categories)
    write_manifest(work / "prepared", dataset.dataset, reader.categories, splits)


def _forget_lost_files(journal: Journal, pngs: Path) -> None:
    """Remove images from the journal whose PNG was lost in a crash of the machine."""
    for image in list(journal.images()):
        path = pngs / image.annotation.file_name
        if not path.is_file() or path.stat().st_size != image.png_bytes:
            journal.forget(image.position)


class _RecordedChecksums:
    """The checksums of the raw manifest; its other content is not kept in memory."""

    def __init__(self, root: Path, record: dict[str, Any]) -> None:
        self._root = root
        self._sha256: dict[str, str] = {
            name: entry.get("sha256", "") for name, entry in record["files"].items()
        }

    def of(self, image: ImageRecord) -> list[str | None]:
        """Those of an image and of its label files; None: the file is not in the manifest."""
        files = [image.images_dir / image.file_name, *image.label_files]
        return [self._sha256.get(path.relative_to(self._root).as_posix()) for path in files]


def _convert_one(target: Path, dataset: str, item: tuple[ImageRecord, list[str | None]]) -> Result:
    """Check one image against its checksums, and write its panoptic PNG if it has no faults."""
    record, recorded = item
    faults: list[Fault] = []
    found = examine(record, faults)
    if found is None:
        return faults, None
    label_sha256 = [sha256(path) for path in record.label_files]
    files = [record.images_dir / record.file_name, *record.label_files]
    for path, now, before in zip(files, [found[3], *label_sha256], recorded, strict=True):
        if now != before:
            change = "changed since the download" if before else "was added since the download"
            faults.append((FaultKind.CHANGED, f"{path}: {change}; run: kmax data download {dataset}"))
    if any(not kind.harmless for kind, _ in faults):
        return faults, None
    labels, (width, height), image_bytes, image_sha256 = found
    png = target / record.png_name
    with write_errors(png):
        png.parent.mkdir(parents=True, exist_ok=True)
        if labels.png is not None:
            shutil.copyfile(labels.png, png)
    if labels.png is None:
        assert labels.ids is not None
        _write_png(png, labels.ids)
    return faults, PreparedImage(
        position=record.position,
        image=Image(record.image_id, record.file_name, width, height),
        annotation=Annotation(record.image_id, record.png_name, labels.segments),
        image_bytes=image_bytes,
        image_sha256=image_sha256,
        label_sha256=label_sha256,
        png_bytes=png.stat().st_size,
        png_sha256=sha256(png),
    )


def _write_png(path: Path, ids: IdMap) -> None:
    with write_errors(path):
        PillowImage.fromarray(map_to_rgb(ids)).save(path)
