"""Where figures come from: what every file of metrics says beside its numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from kmax.files import digest, sha256


@dataclass(frozen=True)
class Provenance:
    """Who counted what.

    Attributes:
        evaluator, version: whose rules, and of which release.
        protocol: what was compared, in words.
        split: which part of the dataset.
        images: how many images were evaluated.
        ground_truth_digest, predictions_digest: SHA-256 over the names and bytes of the files.
    """

    evaluator: str
    version: str
    protocol: str
    split: str
    images: int
    ground_truth_digest: str
    predictions_digest: str

    def to_json(self) -> dict[str, str | int]:
        """All fields by name."""
        return asdict(self)


def files_digest(index: Path | None, files: Iterable[tuple[str, str]]) -> str:
    """One SHA-256 over the files of a side, whatever folder they lie in.

    Args:
        index: JSON file that lists them, None where there is none.
        files: name and SHA-256 of each.
    """
    return digest([*([] if index is None else [sha256(index)]), *sorted([name, one] for name, one in files)])
