"""What a user's own annotation contains, read to describe it: categories, numbers of segments, and faults.

Nothing is written here: a dataset is described only after its annotation was found sound.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kmax.config import Category
from kmax.config.category import palette_color
from kmax.data.faults import Fault, Faults
from kmax.data.formats import coco_instance_json, coco_panoptic_json
from kmax.data.formats.coco_json import Header, read_header
from kmax.data.label_findings import AnyCategory, LabelCounts, TrainingLabels, warn_of_names
from kmax.data.layouts import semantic_masks
from kmax.data.layouts.coco_instances import with_background
from kmax.data.layouts.label_reading import images_of_split, read_png
from kmax.errors import InputError
from kmax.processes.parallel import map_items

HOLDOUT = 10  # every N-th image is for validation unless a validation split is given
VOID = 255
BACKGROUND = "background"


@dataclass(frozen=True)
class Given:
    """The folders and files of the command line; the first of each is for training.

    Attributes:
        images: folders.
        annotation: JSONs, or folders of semantic PNGs.
        pngs: folders of panoptic PNGs, or of instance PNGs; may be empty.
    """

    images: list[Path]
    annotation: list[Path]
    pngs: list[Path]

    def images_of(self, split: int) -> Path:
        """The folder of images of the split of this index; one folder may serve both."""
        return self.images[min(split, len(self.images) - 1)]

    @property
    def holdout(self) -> int | None:
        """The part of the images that is held out for validation."""
        return HOLDOUT if len(self.annotation) == 1 else None


@dataclass(frozen=True)
class Found:
    """What the annotation contains; `categories` is None if the JSON lists them.

    Attributes:
        source: the part of the dataset file that depends on the kind of annotation.
        most_segments: in one image.
    """

    source: dict[str, Any]
    categories: list[Category] | None
    most_segments: int


def read_panoptic(given: Given, faults: Faults) -> Found:
    """Read panoptic JSONs; raises InputError as `kmax.data.own.own_dataset.init`."""
    headers, counts, largest = [], LabelCounts(), 0
    for i, path in enumerate(given.annotation):
        header = _header(path, coco_panoptic_json.WHAT, faults, isthing=None)
        for annotation in coco_panoptic_json.read_annotations(header, faults):
            largest = max(largest, len(annotation.segments))
            if i == 0:
                counts.add(annotation.segments, _pixels(header, annotation.image_id))
        headers.append(header)
    _require_sound(faults)
    _compare_with_folders(given, headers, faults)
    _report(list(headers[0].categories.values()), counts, given.annotation[0], faults)
    return Found({"kind": "coco_panoptic"}, None, largest)


def read_instances(given: Given, faults: Faults) -> Found:
    """Read instance JSONs; the class of all other pixels is one of the JSON's if its name says so."""
    headers, counts, largest, background = [], LabelCounts(), 0, BACKGROUND
    for i, path in enumerate(given.annotation):
        header = _header(path, coco_instance_json.WHAT, faults, isthing=True)
        if i == 0:
            background = _background(header)
        other = with_background(header, background)
        numbers: Counter[Any] = Counter()
        for entry in coco_instance_json.instance_annotations(header, faults):
            numbers[entry["image_id"]] += 1
            if i == 0:
                counts.add_segment(entry["category_id"], iscrowd=bool(entry.get("iscrowd", 0)))
        largest = max([largest, *numbers.values()])
        if i == 0:
            counts.add_segment(other)
        if empty := len(header.images) - len(numbers):
            faults.warn(
                f"{path}: {empty} of {len(header.images)} images have no annotation; they are '{background}'"
            )
        headers.append(header)
    _require_sound(faults)
    _compare_with_folders(given, headers, faults)
    _report(list(headers[0].categories.values()), counts, given.annotation[0], faults)
    return Found({"kind": "coco_instances", "background": background}, None, largest + 1)


def _background(header: Header) -> str:
    """The name of the category of all other pixels: the JSON's own, such as `_background_`, if it has one."""
    names = (category.name for category in header.categories.values())
    return next((name for name in names if name.casefold().strip("_ ") == BACKGROUND), BACKGROUND)


def _header(path: Path, what: str, faults: Faults, isthing: bool | None) -> Header:
    header = read_header(path, what, faults, isthing=isthing)
    if not header.images or not header.categories:
        _require_sound(faults)
        raise InputError(f"{path}: {what} lists no images or no categories")
    return header


def _pixels(header: Header, image_id: int | str) -> int:
    image = header.images[image_id]
    return image.width * image.height


def _require_sound(faults: Faults) -> None:
    if faults.count():
        raise InputError(faults.lines())


def _report(
    categories: Sequence[AnyCategory],
    counts: LabelCounts,
    where: Path,
    faults: Faults,
    advice: str = "correct the annotation",
) -> None:
    warn_of_names(categories, str(where), faults)
    labels = TrainingLabels(categories, counts, str(where), advice)
    if labels.require_learnable(faults):
        labels.warn_of_unused(faults)
    _require_sound(faults)


def _compare_with_folders(given: Given, headers: list[Header], faults: Faults) -> None:
    """Compare the images of the JSONs with those in the folders.

    Raises:
        InputError: none of the images of a JSON exists.
    """
    listed: dict[Path, set[str]] = {}
    for i, header in enumerate(headers):
        folder = given.images_of(i)
        names = [image.file_name for image in header.images.values()]
        missing = [name for name in names if not (folder / name).is_file()]
        if len(missing) == len(names):
            raise InputError(
                f"{folder}: contains none of the {len(names)} images of {header.path}, such as {missing[0]}"
            )
        if missing:
            number = f"{len(missing)} of {len(names)} images of {header.path}"
            faults.warn(f"{folder}: {number} not found (first: {missing[0]!r})")
        listed.setdefault(folder, set()).update(os.path.normpath(name) for name in names)
    first = (image.file_name for image in headers[0].images.values())
    images_of_split(first, "train", given.holdout, given.annotation[0], faults)
    for folder, known in listed.items():
        images = semantic_masks.list_images(folder, given.pngs, Faults()).by_stem()
        stems = {os.path.splitext(name)[0] for name in known}
        if unlisted := sorted(names[0] for stem, names in images.items() if stem not in stems):
            number = f"{len(unlisted)} of {len(images)} images are not in the JSON, and are not used"
            faults.warn(f"{folder}: {number} (first: {unlisted[0]!r})")


# ----------------------------------------------------------------------------------------------------- masks


def read_masks(given: Given, void: int | None, faults: Faults) -> Found:
    """Read masks: the categories are their values."""
    present: Counter[int] = Counter()
    things: set[int] = set()
    counts, largest = LabelCounts(), 0
    for i, folder in enumerate(given.annotation):
        names = semantic_masks.list_masks(
            given.images_of(i), folder, given.pngs[i] if given.pngs else None, faults
        )
        if not names.semantic:
            raise InputError(f"{folder}: contains no semantic PNGs")
        stems = _in_both(names, given.images_of(i), faults)
        if i == 0:
            images_of_split(names.images, "train", given.holdout, given.images[0], faults)
        look = partial(_look, void)
        for mask in map_items(look, [names.labels_of(stem) for stem in stems], f"reading {folder.name}"):
            faults.update(mask.faults)
            present.update(mask.pixels)
            things |= mask.counted
            largest = max(largest, mask.segments)
            if i == 0:
                for value in mask.pixels.keys() - {void}:
                    counts.add_segment(value)
    _require_sound(faults)
    values = sorted(present.keys() - {void}, key=lambda value: (value not in things, value))
    categories = [
        Category(id=value, name=f"class_{value}", isthing=value in things, color=list(palette_color(i)))
        for i, value in enumerate(values)
    ]
    advice = "correct the masks"
    if void is not None and present[void]:
        share = f"{present[void] / present.total():.1%} of the pixels"
        faults.warn(f"{given.annotation[0]}: {void} is taken as void (no label): {share}; --void changes it")
        advice = f"{void} is taken as void (no label), {share}; if it is a class, give --void none"
    if not categories:
        raise InputError(f"{given.annotation[0]}: all pixels are {void}; {advice}")
    _report(categories, counts, given.annotation[0], faults, advice)
    return Found({"kind": "semantic_masks", "void": void}, categories, largest)


def _in_both(names: semantic_masks.MaskNames, images_dir: Path, faults: Faults) -> list[str]:
    """Names without suffix of images with masks; the others are reported.

    Raises:
        InputError: there are none.
    """
    images, masks, folder = names.images, names.semantic, names.semantic_dir
    if not images:
        _require_sound(faults)
        inside = ", except PNGs, which are the labels" if folder.samefile(images_dir) else ""
        raise InputError(f"{images_dir}: contains no images{inside}")
    both = sorted(images.keys() & masks.keys())
    if not both:
        first = f"{min(images.values())} and {min(masks.values())}"
        raise InputError(
            f"{folder}: none of the {len(masks)} PNGs is named like one of the {len(images)} images in "
            f"{images_dir}, such as {first}"
        )
    for alone, listed, what, where in (
        (images.keys() - masks.keys(), images, f"images have no PNG in {folder}", images_dir),
        (masks.keys() - images.keys(), masks, f"PNGs have no image in {images_dir}", folder),
    ):
        if alone:
            first = listed[min(alone)]
            faults.warn(f"{where}: {len(alone)} of {len(listed)} {what} (first: {first!r})")
    return both


@dataclass(frozen=True)
class _Mask:
    """One mask: pixels by value, the values with instance numbers, and its number of segments."""

    faults: list[Fault]
    pixels: dict[int, int]
    counted: set[int]
    segments: int


def _look(void: int | None, paths: tuple[Path, Path | None]) -> _Mask:
    faults: list[Fault] = []
    classes = read_png(paths[0], "semantic PNG", semantic_masks.GREY, faults)
    if classes is None:
        return _Mask(faults, {}, set(), 0)
    values, numbers_of = np.unique(classes, return_counts=True)
    pixels = dict(zip(values.tolist(), numbers_of.tolist(), strict=True))
    if paths[1] is None:
        return _Mask(faults, pixels, set(), len(pixels))
    numbers = read_png(paths[1], "instance PNG", semantic_masks.GREY, faults)
    if numbers is None or numbers.shape != classes.shape:
        return _Mask(faults, pixels, set(), 0)
    pairs = np.unique(np.stack([classes[numbers > 0], numbers[numbers > 0]]).astype(np.int64), axis=1)
    return _Mask(faults, pixels, set(pairs[0].tolist()), len(pixels) + pairs.shape[1])
