"""Describing a user's own dataset: from its files to a dataset file and a family of runs, ready to train."""

from __future__ import annotations

import os
import statistics
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image as PillowImage

from kmax import paths
from kmax.config import Family
from kmax.config.category import palette_color
from kmax.data.dataset_file import Dataset
from kmax.data.faults import Fault, Faults
from kmax.data.formats import coco_instance_json
from kmax.data.formats.coco_json import Header, objects, read_header
from kmax.data.formats.coco_panoptic_json import WHAT, read_annotations
from kmax.data.formats.png import PILLOW_FAULTS
from kmax.data.layouts import semantic_masks
from kmax.data.layouts.label_reading import files_in, read_png
from kmax.data.own.own_run import family_text
from kmax.errors import InputError
from kmax.files import write_text
from kmax.parallel import map_items
from kmax.parameter_files import names_in, parse

HOLDOUT = 10  # every N-th image is for validation unless a validation split is given
VOID = 255
HEADER = """\
# Written by `kmax data init`. Next: kmax data download {name}, kmax data prepare {name},
# kmax train {name}-tiny.
# Fill in licence and citation.{advice}
"""
MASKS_ADVICE = """
# Also fill in the names of the categories and the mask value, if any, for pixels without a label (void)."""


@dataclass(frozen=True)
class _Found:
    """A dataset found on disk; `categories` is None if the JSON has them."""

    source: dict[str, Any]
    categories: list[dict[str, Any]] | None
    most_segments: int  # in one image
    advice: str = ""


def init(
    name: str,
    *,
    known_runs: Collection[str],
    images: list[Path],
    panoptic_json: list[Path],
    panoptic_dir: list[Path],
    instances_json: list[Path],
    semantic_dir: list[Path],
    instance_dir: list[Path],
) -> tuple[Path, Path]:
    """Write `params/datasets/<name>.yaml` and `params/runs/<name>.yaml` with the run `<name>-tiny`.

    The first entry of each list is for training, the second for validation; without a second, one in ten
    images is held out for validation.

    Args:
        name: of the dataset and of the family of runs.
        known_runs: names of existing runs, which the new name must differ from.
        images: folders.
        panoptic_json, panoptic_dir: COCO panoptic annotation; the folder is by default the JSON's name.
        instances_json: COCO instance annotation; all other pixels become a stuff class, background.
        semantic_dir, instance_dir: PNGs of category ids, and of instance numbers.

    Returns:
        The dataset file and the family file.

    Raises:
        InputError: not exactly one kind of annotation, something is missing or faulty, or a file or a run of
            this name exists.
    """
    dataset_path, family_path = paths.dataset_file(name), paths.family_file(name)
    if existing := [f"{path}: already exists" for path in (dataset_path, family_path) if path.exists()]:
        raise InputError(existing)
    if f"{name}-tiny" in known_runs:
        raise InputError(f"run '{name}-tiny' already exists; choose another name for the dataset")
    given = [option for option in (panoptic_json, instances_json, semantic_dir) if option]
    if len(given) != 1:
        raise InputError("give one of --panoptic-json, --instances-json and --semantic-dir")
    _require_pairs(images, given[0])
    root = Path(
        os.path.commonpath([path.absolute() for path in [*images, *given[0], *panoptic_dir, *instance_dir]])
    )
    root = root if root.is_dir() else root.parent
    if panoptic_json:
        found = _panoptic(root, images, panoptic_json, panoptic_dir)
    elif instances_json:
        found = _instances(root, images, instances_json)
    else:
        found = _masks(root, images, semantic_dir, instance_dir)
    dataset = {
        "dataset": name,
        "description": f"own data, {root.name}",
        "licence": "unknown",
        "citation": None,
        "source": {
            **{"kind": found.source["kind"], **_place(root), "files": []},
            **found.source,
            **({} if len(given[0]) > 1 else {"holdout": HOLDOUT}),
        },
        "categories": found.categories,
    }
    parse(Dataset, dataset, dataset_path)
    first = not names_in(paths.RUNS)
    family = family_text(name, _image_size(images[0]), found.most_segments, default=first)
    parse(Family, yaml.safe_load(family), family_path)
    text = yaml.safe_dump(dataset, sort_keys=False, allow_unicode=True, width=110)
    write_text(dataset_path, HEADER.format(name=name, advice=found.advice) + text)
    write_text(family_path, family)
    return dataset_path, family_path


def _require_pairs(images: list[Path], annotation: list[Path]) -> None:
    """Check that there is a folder of images for each annotation; one folder may serve both splits."""
    if not images:
        raise InputError("--images: the folder of images is missing")
    if len(annotation) > 2 or len(images) not in (1, len(annotation)):
        raise InputError("give each option once, or twice for training and validation")
    if missing := [f"{path}: folder of images not found" for path in images if not path.is_dir()]:
        raise InputError(missing)


def _place(root: Path) -> dict[str, Any]:
    """The location of the data: relative to KMAX_DATA_ROOT if it is inside, otherwise an absolute path."""
    data_root = paths.data_root()
    if data_root is not None and root.is_relative_to(data_root.absolute()) and root != data_root.absolute():
        return {"root": None, "folder": root.relative_to(data_root.absolute()).as_posix()}
    return {"root": str(root), "folder": root.name}


def _splits(root: Path, **parts: list[Path]) -> dict[str, dict[str, str | None]]:
    """The files of each split, relative to the root; an option with one value serves both."""
    number = max(map(len, parts.values()))
    return {
        split: {
            key: os.path.relpath(listed[min(i, len(listed) - 1)].absolute(), root) if listed else None
            for key, listed in parts.items()
        }
        for i, split in enumerate(("train", "val")[:number])
    }


def _panoptic(root: Path, images: list[Path], jsons: list[Path], folders: list[Path]) -> _Found:
    folders = folders or [path.with_suffix("") for path in jsons]
    if missing := [f"{path}: folder of panoptic PNGs not found" for path in folders if not path.is_dir()]:
        raise InputError(missing)
    faults = Faults()
    largest = 0
    for path in jsons:
        header = _header(path, WHAT, faults, isthing=None)
        largest = max([largest, *(len(a.segments) for a in read_annotations(header, faults))])
    _require_sound(faults)
    splits = _splits(root, images=images, panoptic_json=jsons, panoptic_dir=folders)
    return _Found({"kind": "coco_panoptic", "splits": splits}, None, largest)


def _instances(root: Path, images: list[Path], jsons: list[Path]) -> _Found:
    faults = Faults()
    counts: dict[tuple[Path, Any], int] = {}
    for path in jsons:
        _header(path, coco_instance_json.WHAT, faults, isthing=True)
        for _, _, entry in objects(path, coco_instance_json.WHAT, ("annotations",), faults):
            key = path, str(entry.get("image_id"))
            counts[key] = counts.get(key, 0) + 1
    _require_sound(faults)
    splits = _splits(root, images=images, instances_json=jsons)
    source = {"kind": "coco_instances", "splits": splits, "background": "background"}
    return _Found(source, None, max(counts.values(), default=0) + 1)


def _header(path: Path, what: str, faults: Faults, isthing: bool | None) -> Header:
    header = read_header(path, what, faults, isthing=isthing)
    if not header.images or not header.categories:
        _require_sound(faults)
        raise InputError(f"{path}: {what} lists no images or no categories")
    return header


def _require_sound(faults: Faults) -> None:
    if faults.count():
        raise InputError(faults.lines())


def _masks(root: Path, images: list[Path], semantic: list[Path], numbered: list[Path]) -> _Found:
    if len(numbered) not in (0, len(semantic)):
        raise InputError("--instance-dir: must occur as often as --semantic-dir")
    values: set[int] = set()
    things: set[int] = set()
    faults = Faults()
    largest = 0
    for i, folder in enumerate(semantic):
        names = list(files_in(folder, "**/*.png", "folder of semantic PNGs").values())
        if not names:
            raise InputError(f"{folder}: contains no semantic PNGs")
        look = partial(_look, folder, numbered[i] if numbered else None)
        for found, present, counted, number in map_items(look, names, f"reading {folder.name}"):
            faults.update(found)
            values |= present
            things |= counted
            largest = max(largest, number)
    _require_sound(faults)
    categories = [
        {"id": value, "name": f"class_{value}", "isthing": value in things, "color": list(palette_color(i))}
        for i, value in enumerate(sorted(values - {VOID}, key=lambda value: (value not in things, value)))
    ]
    if not categories:
        raise InputError(f"{semantic[0]}: all pixels are {VOID} (no label)")
    splits = _splits(root, images=images, semantic=semantic, instances=numbered)
    source = {"kind": "semantic_masks", "splits": splits, "void": VOID}
    return _Found(source, categories, largest, MASKS_ADVICE)


def _look(semantic: Path, numbered: Path | None, name: str) -> tuple[list[Fault], set[int], set[int], int]:
    """Faults of a mask, its classes, those of them with instance numbers, and the number of segments."""
    faults: list[Fault] = []
    classes = read_png(semantic / name, "semantic PNG", semantic_masks.GREY, faults)
    if classes is None:
        return faults, set(), set(), 0
    present = set(np.unique(classes).tolist())
    if numbered is None:
        return faults, present, set(), len(present)
    numbers = read_png(numbered / name, "instance PNG", semantic_masks.GREY, faults)
    if numbers is None or numbers.shape != classes.shape:
        return faults, present, set(), 0
    pairs = np.unique(np.stack([classes[numbers > 0], numbers[numbers > 0]]).astype(np.int64), axis=1)
    return faults, present, set(pairs[0].tolist()), len(present) + pairs.shape[1]


def _image_size(folder: Path) -> int:
    """The median of the longer sides of some 50 images, in pixels."""
    names = sorted(semantic_masks.image_files(folder).values())
    sides = list(_longer_sides(folder / name for name in names[:: max(1, len(names) // 50)]))
    if not sides:
        raise InputError(f"{folder}: contains no images")
    return int(statistics.median(sides))


def _longer_sides(files: Iterable[Path]) -> Iterable[int]:
    for path in files:
        try:
            with PillowImage.open(path) as image:
                yield max(image.size)
        except PILLOW_FAULTS:  # `kmax data check` reports it
            continue
