"""What is unusual about the categories of a dataset: their names, and what is left to learn of them."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kmax.config import Category
from kmax.data.faults import MAX_LINES, FaultKind, Faults
from kmax.data.formats.coco_panoptic import JsonCategory, Segment
from kmax.display import MAX_LENGTH, one_line

JOINERS = "\u200c\u200d"  # part of words in Persian and Indic scripts
MAX_NAMES = 5  # categories named in one line
REPLACEMENT = "\ufffd"  # what `Category` holds instead of a lone surrogate


AnyCategory = Category | JsonCategory


class LabelCounts:
    """Segments of a split by category, and its pixels."""

    def __init__(self) -> None:
        self.segments: Counter[int] = Counter()
        self.crowds: Counter[int] = Counter()
        self.pixels = 0
        self.labelled = 0.0

    def add(self, segments: Iterable[Segment], pixels: int) -> None:
        """Add an image of a number of pixels."""
        self.pixels += pixels
        for segment in segments:
            self.add_segment(segment.category_id, segment.area, iscrowd=segment.iscrowd)

    def add_segment(self, category_id: int, area: float = 0, *, iscrowd: bool = False) -> None:
        """Add a segment of an image whose pixels were counted before."""
        (self.crowds if iscrowd else self.segments)[category_id] += 1
        self.labelled += area


@dataclass(frozen=True)
class TrainingLabels:
    """The labels of the training split.

    Attributes:
        where: place for messages, such as the JSON.
        advice: what to do if nothing is left to learn.
    """

    categories: Sequence[AnyCategory]
    counts: LabelCounts
    where: str
    advice: str = "correct the annotation"

    def require_learnable(self, faults: Faults) -> bool:
        """Add a fault if nothing is left to learn."""
        segments, crowds = self.counts.segments, self.counts.crowds
        present = [c for c in self.categories if segments[c.id] or crowds[c.id]]
        if not segments.total():
            kind = "only crowds" if crowds.total() else "no segments"
            fault = f"the training split has {kind}, so that there is nothing to learn"
        elif len(present) == 1 and not present[0].isthing:
            name = one_line(present[0].name)
            fault = f"all labelled pixels for training are of one stuff category, '{name}': nothing to learn"
        else:
            return True
        faults.add(FaultKind.NOTHING_TO_LEARN, f"{self.where}: {fault}; {self.advice}")
        return False

    def warn_of_unused(self, faults: Faults) -> None:
        """Warn of categories without segments."""
        unused = [category for category in self.categories if not self.counts.segments[category.id]]
        if unused:
            faults.warn(f"{self.where}: {self._without_segments(unused)}")

    def _without_segments(self, unused: list[AnyCategory]) -> str:
        crowds = sum(self.counts.crowds[category.id] > 0 for category in unused)
        names = ", ".join(f"'{one_line(category.name)}'" for category in unused[:MAX_NAMES])
        more = ", ..." if len(unused) > MAX_NAMES else ""
        also = f"; {crowds} of them have crowds" if crowds else ""
        verb = "has" if len(unused) == 1 else "have"
        return (
            f"{len(unused)} of {len(self.categories)} categories {verb} no segments for training: "
            f"{names}{more}{also}"
        )


def warn_of_names(categories: Iterable[AnyCategory], where: str, faults: Faults) -> None:
    """Warn of each category name that is hard to show, and of each set of categories with one name."""
    lines = list(_doubtful_names(categories, where))
    if len(lines) > MAX_LINES:
        lines[MAX_LINES:] = [f"{where}: ... and {len(lines) - MAX_LINES} more names of categories"]
    faults.warn(*lines)


def _doubtful_names(categories: Iterable[AnyCategory], where: str) -> Iterator[str]:
    same: dict[str, list[AnyCategory]] = {}
    for category in categories:
        if reasons := list(_reasons(category.name)):
            shown = one_line(category.name)
            yield f"{where}: the name of category {category.id}, '{shown}', {' and '.join(reasons)}"
        plain = " ".join(unicodedata.normalize("NFKC", category.name).casefold().split())
        same.setdefault(plain, []).append(category)
    for alike in same.values():
        if len(alike) > 1:
            ids = ", ".join(str(category.id) for category in alike[:MAX_NAMES])
            names = list(dict.fromkeys(f"'{one_line(category.name)}'" for category in alike))[:MAX_NAMES]
            equal = f"the same name, {names[0]}" if len(names) == 1 else f"similar names: {', '.join(names)}"
            yield f"{where}: {len(alike)} categories (ids {ids}) have {equal}"


def _reasons(name: str) -> Iterator[str]:
    kinds = {unicodedata.category(character) for character in name if character not in JOINERS}
    if not name.strip():
        yield "is empty"
    elif name != name.strip():
        yield "starts or ends with white space"
    if {"\n", "\r", "\x85", "\u2028", "\u2029"} & set(name):
        yield "contains a line break"
    elif "Cc" in kinds:
        yield "contains control characters"
    if "Cf" in kinds:
        yield "contains invisible characters"
    if "Cs" in kinds or REPLACEMENT in name:
        yield "is not valid Unicode"
    if len(name) > MAX_LENGTH:
        yield f"has {len(name)} characters"
