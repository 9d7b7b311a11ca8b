"""Faults of a dataset by kind: the first lines of each kind, and a count of all."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import Enum

from kmax.display import printable

MAX_LINES = 20


class FaultKind(Enum):
    """Kinds of faults; the value is used in the line that counts further faults."""

    SPLITS = "errors of splits"
    JSON = "JSON format errors"
    CATEGORY = "unknown or inconsistent categories"
    DUPLICATE = "duplicate ids or files"
    UNANNOTATED = "images without annotation"
    ORPHAN = "annotations without image"
    MISSING = "missing files"
    UNREADABLE = "unreadable files"
    SIZE = "sizes that disagree"
    DEPTH = "images of more than 8 bits"
    PNG_MODE = "label PNGs of the wrong format"
    NOT_IN_JSON = "PNGs with ids missing from the JSON"
    NOT_IN_PNG = "segments without pixels"
    AREA = "areas that disagree"
    CHANGED = "files that changed since the download"
    EMPTY = "images without segments"
    ROTATED = "images with an EXIF rotation"
    UNUSABLE_NAME = "unusable file names"
    NOTHING_TO_LEARN = "splits with nothing to learn"

    @property
    def harmless(self) -> bool:
        """Whether a dataset can be prepared despite such faults."""
        return self in (FaultKind.EMPTY, FaultKind.ROTATED)


Fault = tuple[FaultKind, str]


class Faults:
    """Faults as they are found, and warnings; memory does not grow with the number of faults.

    Attributes:
        warnings: lines about unusual input that is used as it is, each once.
    """

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._lines: dict[FaultKind, list[str]] = {}
        self._counts: Counter[FaultKind] = Counter()
        self.warnings: list[str] = []
        self.update(faults)

    def add(self, kind: FaultKind, line: str) -> None:
        """Add one fault."""
        self._counts[kind] += 1
        lines = self._lines.setdefault(kind, [])
        if len(lines) < MAX_LINES:
            lines.append(line)

    def warn(self, *lines: str) -> None:
        """Add warnings, unless they were added before."""
        self.warnings += [line for line in dict.fromkeys(lines) if line not in self.warnings]

    def print_warnings(self) -> None:
        """Print the warnings to stderr."""
        for line in self.warnings:
            print(f"warning: {printable(line)}", file=sys.stderr)

    def update(self, faults: Iterable[Fault]) -> None:
        """Add several."""
        for kind, line in faults:
            self.add(kind, line)

    def count(self, *, harmless: bool = True) -> int:
        """The number of faults; `harmless` false: only those that prevent preparing."""
        return sum(number for kind, number in self._counts.items() if harmless or not kind.harmless)

    def lines(self, *, harmless: bool = True) -> list[str]:
        """By kind, in the order found: at most 20 lines each, then a count of the rest."""
        return list(self._lines_by_kind(harmless))

    def _lines_by_kind(self, harmless: bool) -> Iterator[str]:
        for kind, lines in self._lines.items():
            if harmless or not kind.harmless:
                yield from lines
                if (more := self._counts[kind] - len(lines)) > 0:
                    yield f"... and {more} more {kind.value}"

    def summary(self) -> str:
        """Counts by kind, such as '3 missing files, 1 areas that disagree'."""
        return ", ".join(f"{number} {kind.value}" for kind, number in self._counts.items())
