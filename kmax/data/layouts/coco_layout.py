"""What the two layouts with a JSON per split share."""

from __future__ import annotations

from pathlib import Path

from kmax.config import Category, CocoInstances, CocoPanoptic, Dataset
from kmax.data.categories import AgreedCategories
from kmax.data.faults import Faults
from kmax.data.formats.coco_json import Header
from kmax.data.layouts.labelled import of_split


class CocoLayout:
    """JSONs whose categories must agree, and the images that they list."""

    def __init__(self, dataset: Dataset, source: CocoPanoptic | CocoInstances, root: Path) -> None:
        self._holdout, self._root = source.holdout, root
        self._agreed = AgreedCategories(dataset)

    @property
    def categories(self) -> list[Category]:
        """As the dataset file lists them, else as the first JSON does."""
        return self._agreed.categories

    def _listed(self, split: str) -> str:
        """The split that the dataset file lists the images under."""
        return "train" if self._holdout else split

    def _names(self, header: Header, split: str, faults: Faults) -> set[str]:
        """Image files of a split; adds where the categories of its JSON disagree."""
        self._agreed.add(header, faults)
        return of_split((image.file_name for image in header.images.values()), split, self._holdout)
