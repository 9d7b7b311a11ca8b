"""The classes of a dataset: their order, their colours, and whether two lists agree."""

from __future__ import annotations

import colorsys

from kmax import paths
from kmax.config import Category, Dataset
from kmax.data.faults import Faults, Kind
from kmax.data.formats.coco_json import Header
from kmax.data.formats.coco_panoptic import JsonCategory


def contiguous_categories(listed: list[JsonCategory]) -> list[Category]:
    """Categories in the order of the network's classes: things first, then stuff, each by rising id.

    Where the annotation has no colours, evenly spread ones are chosen.
    """
    ordered = sorted(listed, key=lambda category: (not category.isthing, category.id))
    return [
        Category(id=c.id, name=c.name, isthing=c.isthing, color=list(c.color or palette_color(i)))
        for i, c in enumerate(ordered)
    ]


def palette_color(index: int) -> tuple[int, int, int]:
    """The RGB colour of the class `index`: hues a golden ratio apart, so that neighbours differ."""
    hue = (0.02 + index * 0.618033988749895) % 1.0
    saturation, value = (0.85, 0.65, 0.45)[index % 3], (0.95, 0.75, 0.9, 0.6)[index % 4]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


class AgreedCategories:
    """The categories that hold for a dataset: those of its file, else those of its first JSON."""

    def __init__(self, dataset: Dataset) -> None:
        self._categories = dataset.categories
        self._agreed_with = str(paths.dataset_file(dataset.dataset))

    @property
    def categories(self) -> list[Category]:
        """In the order of the network's classes."""
        return self._categories or []

    def add(self, header: Header, faults: Faults) -> None:
        """Compare those of another JSON, and add where they differ."""
        if not header.images:
            faults.add(Kind.SPLITS, f"{header.path}: no annotated images")
        if not header.categories:
            faults.add(Kind.CATEGORY, f"{header.path}: no categories")
        elif self._categories is None:
            self._categories = contiguous_categories(list(header.categories.values()))
            self._agreed_with = str(header.path)
        else:
            _compare(header, self._categories, self._agreed_with, faults)


def _compare(header: Header, categories: list[Category], agreed_with: str, faults: Faults) -> None:
    wanted = {category.id: (category.name, category.isthing) for category in categories}
    found = {category.id: (category.name, category.isthing) for category in header.categories.values()}
    lines = [f"category {key} is not in {agreed_with}" for key in sorted(found.keys() - wanted.keys())]
    lines += [f"category {key} of {agreed_with} is missing" for key in sorted(wanted.keys() - found.keys())]
    lines += [
        f"category {key} is {_describe(found[key])}, in {agreed_with} {_describe(wanted[key])}"
        for key in sorted(found.keys() & wanted.keys())
        if found[key] != wanted[key]
    ]
    for line in lines:
        faults.add(Kind.CATEGORY, f"{header.path}: {line}")


def _describe(category: tuple[str, bool]) -> str:
    return f"'{category[0]}' ({'thing' if category[1] else 'stuff'})"
