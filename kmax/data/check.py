"""Every fault of a dataset, file by file: `check` never stops at the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from kmax import paths
from kmax.config import Category, CocoPanoptic, Dataset, SplitFiles
from kmax.data.datasets import contiguous_categories, load_dataset, open_prepared, require_raw_root
from kmax.data.panoptic import Annotation, Image, PanopticJson, read_map
from kmax.data.panoptic_json import parse_panoptic_json
from kmax.data.parallel import map_items
from kmax.errors import InputError
from kmax.files import sha256

MAX_LISTED = 10  # ids named in one fault


@dataclass(frozen=True)
class FileRecord:
    """What the two files of one image are, for the digest of the dataset."""

    image_bytes: int
    image_sha256: str
    png_sha256: str


@dataclass(frozen=True)
class SplitCheck:
    """A split's panoptic JSON, and for each of its images the files (None where a file is faulty)."""

    content: PanopticJson
    records: list[FileRecord | None]


def check(name: str) -> list[str]:
    """All faults of a dataset, one line each; an empty list is a sound dataset.

    A dataset in COCO layout is checked where its raw files lie, a generated one in its prepared folder.

    Raises:
        InputError: unknown dataset, or there is no data to check.
    """
    dataset = load_dataset(name)
    if isinstance(dataset.source, CocoPanoptic):
        return check_splits(dataset, require_raw_root(dataset), dataset.source.splits)[2]
    folder = paths.prepared(name)
    splits = {
        split.name: SplitFiles(
            images=str(split.images_dir.relative_to(folder)),
            panoptic_json=str(split.panoptic_json.relative_to(folder)),
            panoptic_dir=str(split.panoptic_dir.relative_to(folder)),
        )
        for split in open_prepared(name).splits.values()
    }
    return check_splits(dataset, folder, splits)[2]


def check_splits(
    dataset: Dataset, root: Path, splits: Mapping[str, SplitFiles]
) -> tuple[dict[str, SplitCheck], list[Category], list[str]]:
    """Check files in COCO panoptic layout below `root`.

    Returns:
        What was found per split, the categories in class order, and all faults.
    """
    found: dict[str, SplitCheck] = {}
    categories: list[Category] | None = dataset.categories
    agreed_with = str(paths.dataset_file(dataset.dataset))
    faults: list[str] = [] if splits else [f"{agreed_with}: no splits"]
    for name, files in splits.items():
        path = root / files.panoptic_json
        try:
            content, json_faults = parse_panoptic_json(path)
        except InputError as error:
            faults.extend(error.faults)
            continue
        faults.extend(json_faults)
        if not content.images:
            faults.append(f"{path}: no annotated images")
        if not content.categories:
            faults.append(f"{path}: no categories")
        elif categories is None:
            categories, agreed_with = contiguous_categories(content.categories), str(path)
        else:
            faults.extend(_category_faults(content, categories, agreed_with))
        tasks = [
            _Task(image, annotation, root / files.images, root / files.panoptic_dir)
            for image, annotation in zip(content.images, content.annotations, strict=True)
        ]
        checked = list(map_items(_check_image, tasks, f"checking {dataset.dataset}/{name}"))
        faults.extend(fault for image_faults, _ in checked for fault in image_faults)
        found[name] = SplitCheck(content, [record for _, record in checked])
    return found, categories or [], faults


@dataclass(frozen=True)
class _Task:
    image: Image
    annotation: Annotation
    images_dir: Path
    panoptic_dir: Path


def _check_image(task: _Task) -> tuple[list[str], FileRecord | None]:
    """The faults of one image's two files."""
    image_path = task.images_dir / task.image.file_name
    png_path = task.panoptic_dir / task.annotation.file_name
    faults = _image_faults(image_path, task.image) + _map_faults(png_path, task.image, task.annotation)
    if not (image_path.is_file() and png_path.is_file()):
        return faults, None
    return faults, FileRecord(image_path.stat().st_size, sha256(image_path), sha256(png_path))


def _image_faults(path: Path, image: Image) -> list[str]:
    try:
        with PillowImage.open(path) as opened:
            size = opened.size
            opened.load()
    except FileNotFoundError:
        return [f"{path}: image not found"]
    except (OSError, SyntaxError, ValueError, EOFError, PillowImage.DecompressionBombError) as error:
        return [f"{path}: image cannot be read: {error}"]
    if size != (image.width, image.height):
        return [f"{path}: image is {size[0]}x{size[1]}, the JSON says {image.width}x{image.height}"]
    return []


def _map_faults(path: Path, image: Image, annotation: Annotation) -> list[str]:
    """Where the PNG and its JSON entry disagree."""
    if not annotation.segments:
        return [f"{path}: image {image.id} has no segments"]
    try:
        ids = read_map(path)
    except InputError as error:
        return error.faults
    faults = []
    if ids.shape != (image.height, image.width):
        height, width = ids.shape
        faults.append(f"{path}: panoptic PNG is {width}x{height}, the JSON says {image.width}x{image.height}")
    segments = sorted(annotation.segments, key=lambda segment: segment.id)
    known = np.array([segment.id for segment in segments])
    position = np.searchsorted(known, ids).clip(max=len(known) - 1)
    listed = known[position] == ids
    strange = np.unique(ids[~listed & (ids != 0)]).tolist()
    if strange:
        more = f" and {len(strange) - MAX_LISTED} more" if len(strange) > MAX_LISTED else ""
        names = ", ".join(map(str, strange[:MAX_LISTED]))
        faults.append(f"{path}: ids {names}{more} are in the PNG but not in the JSON")
    areas = np.bincount(position[listed], minlength=len(known)).tolist()
    for segment, area in zip(segments, areas, strict=True):
        if area == 0:
            faults.append(f"{path}: segment {segment.id} is in the JSON but not in the PNG")
        elif area != segment.area:
            faults.append(f"{path}: segment {segment.id} has {area} pixels, the JSON says {segment.area}")
    return faults


def _category_faults(content: PanopticJson, categories: list[Category], agreed_with: str) -> list[str]:
    """Where the JSON's categories differ from those that hold for the dataset."""
    wanted = {category.id: (category.name, category.isthing) for category in categories}
    found = {category.id: (category.name, category.isthing) for category in content.categories}
    faults = [
        f"{content.path}: category {key} is not in {agreed_with}"
        for key in sorted(found.keys() - wanted.keys())
    ]
    faults += [
        f"{content.path}: category {key} of {agreed_with} is missing"
        for key in sorted(wanted.keys() - found.keys())
    ]
    faults += [
        f"{content.path}: category {key} is {_describe(found[key])}, "
        f"in {agreed_with} {_describe(wanted[key])}"
        for key in sorted(found.keys() & wanted.keys())
        if found[key] != wanted[key]
    ]
    return faults


def _describe(category: tuple[str, bool]) -> str:
    return f"'{category[0]}' ({'thing' if category[1] else 'stuff'})"
