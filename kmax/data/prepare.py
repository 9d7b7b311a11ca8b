"""The prepare stage: one canonical form for all datasets.

`data/prepared/<dataset>/` holds per split `panoptic_<split>.json` and `panoptic_<split>/*.png` in COCO
panoptic format, and `manifest.json` with categories in class order, counts and digests. Raw images stay where
they are; generated ones are drawn into `images_<split>/`.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image as PillowImage

from kmax import paths
from kmax.config import Category, CocoPanoptic, Dataset, Generated
from kmax.data import shapes
from kmax.data.check import FileRecord, SplitCheck, check_splits
from kmax.data.datasets import MANIFEST_VERSION, load_dataset, raw_root, require_raw_root
from kmax.data.download import raw_record
from kmax.data.panoptic import Annotation, Image, map_to_rgb
from kmax.data.parallel import map_items
from kmax.errors import InputError
from kmax.files import atomic_folder, digest, exclusive_lock, sha256, write_json, write_text


def prepare(name: str, workers: int | None = None) -> Path:
    """Validate a downloaded dataset, or draw a generated one, and write its prepared folder.

    The work happens in a hidden folder beside it, which takes its place at the end; what a killed process
    left is removed by the next one.

    Args:
        workers: processes that draw; the result does not depend on it. None: one per core.

    Returns:
        `data/prepared/<dataset>`.

    Raises:
        InputError: unknown dataset, not downloaded, faulty (all faults), or another process prepares it.
    """
    dataset = load_dataset(name)
    record = raw_record(dataset)
    folder = paths.prepared(name)
    lock = folder.parent / f".{name}.lock"
    with exclusive_lock(lock, f"{folder}: another process is preparing '{name}'; wait for it"):
        for pattern in (f".{name}.*.tmp", f".{name}.*.old"):
            for left in folder.parent.glob(pattern):
                shutil.rmtree(left, ignore_errors=True)
        with atomic_folder(folder) as temporary:
            if isinstance(dataset.source, Generated):
                splits, categories = _draw(dataset, dataset.source, temporary, workers)
            else:
                splits, categories = _collect(dataset, dataset.source, record, temporary)
            _write_manifest(dataset, splits, categories, temporary)
    return folder


@dataclass(frozen=True)
class _Split:
    """A split to be described in the manifest; `images_dir` as the manifest stores it."""

    images_dir: str
    images: list[Image]
    annotations: list[Annotation]
    records: list[FileRecord]


def _write_manifest(
    dataset: Dataset, splits: dict[str, _Split], categories: list[Category], folder: Path
) -> None:
    """Write the panoptic JSON of every split and the manifest."""
    listed = [category.model_dump() for category in categories]
    manifest: dict[str, Any] = {"version": MANIFEST_VERSION, "dataset": dataset.dataset, "categories": listed}
    manifest["splits"] = {}
    for name, split in splits.items():
        value = {
            "images": [asdict(image) for image in split.images],
            "annotations": [
                {
                    "image_id": annotation.image_id,
                    "file_name": annotation.file_name,
                    "segments_info": [
                        {**asdict(segment), "iscrowd": int(segment.iscrowd), "bbox": list(segment.bbox)}
                        for segment in annotation.segments
                    ],
                }
                for annotation in split.annotations
            ],
            "categories": [{**category, "isthing": int(category["isthing"])} for category in listed],
        }
        path = folder / f"panoptic_{name}.json"
        write_text(path, json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n")
        segments = [segment for annotation in split.annotations for segment in annotation.segments]
        manifest["splits"][name] = {
            "num_images": len(split.images),
            "num_segments": len(segments),
            "num_crowd_segments": sum(segment.iscrowd for segment in segments),
            "images_dir": split.images_dir,
            "panoptic_json": path.name,
            "panoptic_dir": f"panoptic_{name}",
            "digest": digest([value, [asdict(record) for record in split.records]]),
        }
    manifest["digest"] = digest(manifest)
    write_json(folder / "manifest.json", manifest)


# ------------------------------------------------------------------------------------------------- generated


def _draw(
    dataset: Dataset, source: Generated, folder: Path, workers: int | None
) -> tuple[dict[str, _Split], list[Category]]:
    categories = shapes.check_categories(dataset.categories, str(paths.dataset_file(dataset.dataset)))
    splits = {}
    for name, count in source.images.items():
        (folder / f"images_{name}").mkdir()
        (folder / f"panoptic_{name}").mkdir()
        draw = partial(_draw_one, source, name, categories, folder)
        drawn = list(map_items(draw, range(count), f"drawing {dataset.dataset}/{name}", workers))
        images, annotations, records = (list(column) for column in zip(*drawn, strict=True))
        splits[name] = _Split(f"images_{name}", images, annotations, records)
    return splits, categories


def _draw_one(
    source: Generated, split: str, categories: list[Category], folder: Path, index: int
) -> tuple[Image, Annotation, FileRecord]:
    """Draw one image into the prepared folder; ids count from 1."""
    height, width = source.image_size
    scene = shapes.draw_scene(source.seed, split, index, (height, width), categories)
    name = f"{index:06d}.png"
    image_path = folder / f"images_{split}" / name
    png_path = folder / f"panoptic_{split}" / name
    PillowImage.fromarray(scene.rgb).save(image_path, compress_level=4)
    PillowImage.fromarray(map_to_rgb(scene.ids)).save(png_path)
    record = FileRecord(image_path.stat().st_size, sha256(image_path), sha256(png_path))
    return Image(index + 1, name, width, height), Annotation(index + 1, name, scene.segments), record


# ----------------------------------------------------------------------------------------------- COCO layout


def _collect(
    dataset: Dataset, source: CocoPanoptic, record: dict[str, Any], folder: Path
) -> tuple[dict[str, _Split], list[Category]]:
    """Validate raw files and copy the panoptic PNGs."""
    root = require_raw_root(dataset)
    found, categories, faults = check_splits(dataset, root, source.splits)
    faults += _changed_since_download(dataset, source, found, record)
    if faults:
        raise InputError(faults)
    splits = {}
    for name, checked in found.items():
        content = checked.content
        copy = partial(_copy, root / source.splits[name].panoptic_dir, folder / f"panoptic_{name}")
        files = [annotation.file_name for annotation in content.annotations]
        for _ in map_items(copy, files, f"copying {dataset.dataset}/{name}", workers=1):
            pass
        records = [entry for entry in checked.records if entry is not None]
        splits[name] = _Split(source.splits[name].images, content.images, content.annotations, records)
    return splits, categories


def _changed_since_download(
    dataset: Dataset, source: CocoPanoptic, found: dict[str, SplitCheck], record: dict[str, Any]
) -> list[str]:
    """Raw files that are not those which the raw manifest records."""
    advice = f"changed since the download; run: kmax data download {dataset.dataset}"
    faults = []
    for name, checked in found.items():
        files, content = source.splits[name], checked.content
        for image, annotation, entry in zip(
            content.images, content.annotations, checked.records, strict=True
        ):
            if entry is None:
                continue
            image_file = f"{files.images}/{image.file_name}"
            png_file = f"{files.panoptic_dir}/{annotation.file_name}"
            for file, found_sha256 in ((image_file, entry.image_sha256), (png_file, entry.png_sha256)):
                if record["files"].get(file, {}).get("sha256") != found_sha256:
                    faults.append(f"{raw_root(dataset) / file}: {advice}")
    return faults


def _copy(source: Path, target: Path, name: str) -> None:
    path = target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / name, path)
