"""SHA-256 of weight files: from `params/weights.yaml`, else from `params/weights.recorded.json`.

The latter contains the digests of first downloads, for publishers that state none.
"""

from __future__ import annotations

from pathlib import Path

from kmax import files, paths
from kmax.config import Name, Parameters, Sha256, Weights
from kmax.parameter_files import parse
from kmax.urls import without_credentials


class Recorded(Parameters):
    """Source and digest of a first download."""

    source: str
    sha256: Sha256


class _Content(Parameters):
    weights: dict[Name, Recorded]


def source_of(entry: Weights) -> str:
    """The source of an entry's file: its URL, without credentials, or its path."""
    return str(entry.path) if entry.url is None else without_credentials(entry.url)


def expected_sha256(name: str, entry: Weights) -> str | None:
    """The required digest of the source: the entry's, else the recorded one, else None."""
    return entry.sha256 or RecordedFile().sha256(name, source_of(entry))


class RecordedFile:
    """The file, which is kept in git, so that later downloads are checked against the first."""

    path: Path = paths.PARAMS / "weights.recorded.json"

    def sha256(self, name: str, source: str) -> str | None:
        """The digest of an entry, if it was recorded from the same source."""
        found = self._read().get(name)
        return found.sha256 if found is not None and found.source == source else None

    def add(self, name: str, recorded: Recorded) -> None:
        """Record an entry; safe for concurrent downloads."""
        lock = self.path.with_name(f".{self.path.name}.lock")
        with files.exclusive_lock(lock, f"{self.path}: locked by another process", wait=True):
            weights = self._read() | {name: recorded}
            value = {key: weights[key].model_dump() for key in sorted(weights)}
            files.write_json(self.path, {"weights": value})

    def _read(self) -> dict[str, Recorded]:
        if not self.path.exists():
            return {}
        weights = parse(_Content, files.read_json(self.path, "recorded digests"), self.path).weights
        # Earlier releases recorded the source with its credentials.
        return {
            name: one.model_copy(update={"source": without_credentials(one.source)})
            for name, one in weights.items()
        }
