"""Provenance of scores, stored in every metrics file with its numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from kmax.files import digest, sha256


@dataclass(frozen=True)
class Provenance:
    """Evaluator and input of figures.

    Attributes:
        evaluator, version: the rules that were applied, and their release.
        protocol: what was compared, in words.
        split: name of the split.
        images: how many images were evaluated.
        ground_truth_digest, predictions_digest: SHA-256 over the names and bytes of the files.
        engine: program and version that applied the evaluator's rules, where there is a choice.
    """

    evaluator: str
    version: str
    protocol: str
    split: str
    images: int
    ground_truth_digest: str
    predictions_digest: str
    engine: str | None = None

    def to_json(self) -> dict[str, str | int]:
        """All fields by name; the engine is omitted when missing."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def files_digest(index: Path | None, files: Iterable[tuple[str, str]]) -> str:
    """One SHA-256 over the files of ground truth or predictions, independent of their folder.

    Args:
        index: JSON file that lists them; None: there is none.
        files: name and SHA-256 of each.
    """
    return digest([*([] if index is None else [sha256(index)]), *sorted([name, one] for name, one in files)])
