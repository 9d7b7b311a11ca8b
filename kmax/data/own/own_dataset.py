"""Describing a user's own dataset: from its files to a dataset file and a family of runs, ready to train."""

from __future__ import annotations

import os
import statistics
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from kmax import paths
from kmax.config import Family, Name
from kmax.data.dataset_file import Dataset
from kmax.data.faults import Faults
from kmax.data.formats.image_file import UnreadableImageError, read_size
from kmax.data.layouts import semantic_masks
from kmax.data.own.own_annotation import VOID, Found, Given, read_instances, read_masks, read_panoptic
from kmax.data.own.own_run import family_text
from kmax.errors import InputError
from kmax.files import write_text
from kmax.folders import is_utf8
from kmax.parameter_files import names_in, parse

LONGEST_NAME = 100  # characters; file names are made of it
HEADER = """\
# Written by `kmax data init`. Next: kmax data download {name}, kmax data prepare {name},
# kmax train {name}-tiny.
# Fill in licence and citation.{advice}
"""
MASKS_ADVICE = """
# Also fill in the names of the categories and the mask value, if any, for pixels without a label (void)."""


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
    void: int | None = VOID,
) -> tuple[Path, Path]:
    """Write `params/datasets/<name>.yaml` and `params/runs/<name>.yaml` with the run `<name>-tiny`.

    The first entry of each list is for training, the second for validation; without a second, one in ten
    images is held out for validation. Unusual input that is accepted is reported on stderr.

    Args:
        name: of the dataset and of the family of runs.
        known_runs: names of existing runs, which the new name must differ from.
        images: folders.
        panoptic_json, panoptic_dir: COCO panoptic annotation; the folder is by default the JSON's name.
        instances_json: COCO instance annotation; all other pixels become a stuff class, background.
        semantic_dir, instance_dir: PNGs of category ids, and of instance numbers.
        void: the value of pixels without a label in semantic PNGs; None: every pixel has one.

    Returns:
        The dataset file and the family file.

    Raises:
        InputError: not exactly one kind of annotation, something is missing or faulty, nothing is left to
            learn, or a file or a run of this name exists.
    """
    _require_name(name)
    dataset_path, family_path = paths.dataset_file(name), paths.family_file(name)
    if existing := [f"{path}: already exists" for path in (dataset_path, family_path) if path.exists()]:
        raise InputError(existing)
    if f"{name}-tiny" in known_runs:
        raise InputError(f"run '{name}-tiny' already exists; choose another name for the dataset")
    given = [option for option in (panoptic_json, instances_json, semantic_dir) if option]
    if len(given) != 1:
        raise InputError("give one of --panoptic-json, --instances-json and --semantic-dir")
    _require_pairs(images, given[0])
    panoptic_dir = panoptic_dir or [path.with_suffix("") for path in panoptic_json]
    kind = Given(images, given[0], panoptic_dir if panoptic_json else instance_dir)
    root = _common_folder([*images, *given[0], *panoptic_dir, *instance_dir])
    faults = Faults()
    parts: dict[str, list[Path]]
    if panoptic_json:
        if missing := [path for path in panoptic_dir if not path.is_dir()]:
            raise InputError([f"{path}: folder of panoptic PNGs not found" for path in missing])
        found = read_panoptic(kind, faults)
        parts = {"panoptic_json": panoptic_json, "panoptic_dir": panoptic_dir}
    elif instances_json:
        found = read_instances(kind, faults)
        parts = {"instances_json": instances_json}
    else:
        if len(instance_dir) not in (0, len(semantic_dir)):
            raise InputError("--instance-dir: must occur as often as --semantic-dir")
        found = read_masks(kind, void, faults)
        parts = {"semantic": semantic_dir, "instances": instance_dir}
    dataset = _dataset(name, root, kind, found, _splits(root, images=images, **parts))
    parse(Dataset, dataset, f"dataset '{name}'")
    first = not names_in(paths.RUNS)
    side = _image_size(images[0], kind.pngs if instances_json else [*given[0], *kind.pngs])
    family = family_text(name, side, found.most_segments, default=first)
    parse(Family, yaml.safe_load(family), f"family '{name}'")
    faults.print_warnings()
    text = yaml.safe_dump(dataset, sort_keys=False, allow_unicode=True, width=110)
    advice = "" if found.categories is None else MASKS_ADVICE
    write_text(dataset_path, HEADER.format(name=name, advice=advice) + text)
    write_text(family_path, family)
    return dataset_path, family_path


def _dataset(
    name: str, root: Path, given: Given, found: Found, splits: dict[str, dict[str, str | None]]
) -> dict[str, Any]:
    """The content of the dataset file."""
    source = {
        **{"kind": found.source["kind"], **_place(root), "files": [], "splits": splits},
        **found.source,
        **({} if given.holdout is None else {"holdout": given.holdout}),
    }
    return {
        "dataset": name,
        "description": f"own data, {root.name}",
        "licence": "unknown",
        "citation": None,
        "source": source,
        "categories": None if found.categories is None else [c.model_dump() for c in found.categories],
    }


def _require_name(name: str) -> None:
    try:
        TypeAdapter(Name).validate_python(name)
        valid = len(name) <= LONGEST_NAME
    except ValidationError:
        valid = False
    if not valid:
        raise InputError(
            f"name {name[:LONGEST_NAME]!r}: use up to {LONGEST_NAME} small letters, digits, '_', '.' and "
            "'-', of which the first is a letter or a digit"
        )


def _common_folder(given: list[Path]) -> Path:
    """The folder that contains everything.

    Raises:
        InputError: a name that cannot be written into a dataset file.
    """
    if strange := [f"{path}: the name is not valid UTF-8; rename it" for path in given if not _is_utf8(path)]:
        raise InputError(strange)
    root = Path(os.path.commonpath([path.absolute() for path in given]))
    return root if root.is_dir() else root.parent


def _is_utf8(path: Path) -> bool:
    return is_utf8(str(path.absolute()))


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


def _image_size(folder: Path, label_dirs: list[Path]) -> int:
    """The median of the longer sides of some 50 images, in pixels."""
    names = sorted(semantic_masks.image_files(folder, label_dirs, Faults()).values())
    sides = list(_longer_sides(folder / name for name in names[:: max(1, len(names) // 50)]))
    if not sides:
        raise InputError(f"{folder}: contains no images")
    return int(statistics.median(sides))


def _longer_sides(files: Iterable[Path]) -> Iterable[int]:
    for path in files:
        try:
            yield max(read_size(path))
        except UnreadableImageError:  # `kmax data check` reports it
            continue
