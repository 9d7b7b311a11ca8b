"""Common parts of layouts with a JSON per split: its images, and categories that must agree."""

from __future__ import annotations

from pathlib import Path
from typing import Generic, TypeVar

from kmax.config import Category
from kmax.config.category import palette_color
from kmax.data.faults import FaultKind, Faults
from kmax.data.formats.coco_json import Header
from kmax.data.formats.coco_panoptic import JsonCategory
from kmax.data.layouts.label_reading import images_of_split
from kmax.data.layouts.layout import RawFiles

Layout = TypeVar("Layout", bound=RawFiles)


class CocoReader(Generic[Layout]):
    """JSONs whose categories must agree, and the images that they list."""

    def __init__(
        self, source: Layout, root: Path, categories: list[Category] | None, dataset_file: Path
    ) -> None:
        self._source, self._root, self._holdout = source, root, source.holdout
        self._agreed = AgreedCategories(categories, dataset_file)

    @property
    def shared_files(self) -> list[Path]:
        """The JSONs."""
        return [self._root / path for path in self._source.annotation_paths()]

    @property
    def categories(self) -> list[Category]:
        """The categories of the dataset file, else those of the first JSON."""
        return self._agreed.categories

    def _listed(self, split: str) -> str:
        """The split under which the dataset file lists the images."""
        return "train" if self._holdout else split

    def _names(self, header: Header, split: str, faults: Faults) -> set[str]:
        """Image files of a split; adds a fault if the categories of its JSON disagree."""
        self._agreed.add(header, faults)
        names = (image.file_name for image in header.images.values())
        return images_of_split(names, split, self._holdout, header.path, faults)


class AgreedCategories:
    """The categories of a dataset: those of its dataset file, else those of its first JSON."""

    def __init__(self, categories: list[Category] | None, dataset_file: Path) -> None:
        self._categories = categories
        self._agreed_with = str(dataset_file)

    @property
    def categories(self) -> list[Category]:
        """In the order of the network's classes."""
        return self._categories or []

    def add(self, header: Header, faults: Faults) -> None:
        """Compare with the categories of another JSON, and add a fault for each difference."""
        if not header.images:
            faults.add(FaultKind.SPLITS, f"{header.path}: no annotated images")
        if not header.categories:
            faults.add(FaultKind.CATEGORY, f"{header.path}: no categories")
        elif self._categories is None:
            self._categories = contiguous_categories(list(header.categories.values()))
            self._agreed_with = str(header.path)
        else:
            _compare(header, self._categories, self._agreed_with, faults)


def _compare(header: Header, categories: list[Category], agreed_with: str, faults: Faults) -> None:
    expected = {category.id: (category.name, category.isthing) for category in categories}
    listed = contiguous_categories(list(header.categories.values()))
    found = {category.id: (category.name, category.isthing) for category in listed}
    lines = [f"category {key} is not in {agreed_with}" for key in sorted(found.keys() - expected.keys())]
    lines += [f"category {key} of {agreed_with} is missing" for key in sorted(expected.keys() - found.keys())]
    lines += [
        f"category {key} is {_describe(found[key])}, in {agreed_with} {_describe(expected[key])}"
        for key in sorted(found.keys() & expected.keys())
        if found[key] != expected[key]
    ]
    for line in lines:
        faults.add(FaultKind.CATEGORY, f"{header.path}: {line}")


def _describe(category: tuple[str, bool]) -> str:
    return f"'{category[0]}' ({'thing' if category[1] else 'stuff'})"


def contiguous_categories(listed: list[JsonCategory]) -> list[Category]:
    """Categories in the order of the network's classes: things first, then stuff, each by ascending id.

    If the annotation has no colours, evenly spread ones are chosen.
    """
    ordered = sorted(listed, key=lambda category: (not category.isthing, category.id))
    return [
        Category(id=c.id, name=c.name, isthing=c.isthing, color=list(c.color or palette_color(i)))
        for i, c in enumerate(ordered)
    ]
