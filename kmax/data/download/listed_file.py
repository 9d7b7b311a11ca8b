"""A file that a dataset lists by URL: where it may lie, and whether all that it holds is there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmax.config import RemoteFile
from kmax.data.download.known_digests import KnownDigests
from kmax.errors import InputError
from kmax.files import read_json

OWN_FOLDER = ".downloads"
OWN_MANIFEST = "manifest.json"  # written into the root when a download is complete


@dataclass(frozen=True)
class ListedFile:
    """A listed file and its places."""

    remote: RemoteFile
    root: Path

    @property
    def place(self) -> Path:
        """Where a user may put it, and where it comes to lie unless it is unpacked."""
        return self.root / self.remote.path

    @property
    def fetched(self) -> Path:
        """Where it lies when this project has fetched it."""
        return self.root / OWN_FOLDER / self.remote.path

    @property
    def note(self) -> Path:
        """What came out of the archive."""
        return self.fetched.with_name(f"{self.fetched.name}.unpacked.json")

    @property
    def work(self) -> Path:
        """A folder that is there from the beginning of unpacking to its end, with kills in between."""
        return self.fetched.with_name(f"{self.fetched.name}.unpacking")

    def is_unpacked(self) -> bool:
        """Whether all that the archive holds is there: as its note says, or the numbers of files."""
        note = self.read_note()
        if note is not None:
            return all(size_of(self.root / name) == size for name, size in note["members"].items())
        held = self.remote.holds
        if not held or self.work.exists():
            return False
        return all(count_files(self.root / name, at_most=number) == number for name, number in held.items())

    @property
    def archive(self) -> Path | None:
        """Where it lies now; None: nowhere."""
        return next((path for path in (self.place, self.fetched) if path.is_file()), None)

    def is_done(self) -> bool:
        """Whether nothing is to be fetched, moved or unpacked."""
        if not self.remote.unpack:
            return self.place.is_file()
        return self.archive in (None, self.place) and self.is_unpacked() and not self.work.exists()

    def remember(self, digests: KnownDigests) -> None:
        """Spare the digests that were compared when it was fetched."""
        name = self.fetched.relative_to(self.root).as_posix()
        for kind, digest in (("sha256", self.remote.sha256), ("md5", self.remote.md5)):
            if digest is not None:
                digests.remember(name, kind, digest)

    def read_note(self) -> dict[str, Any] | None:
        """The note, where it is of the archive that is wanted."""
        try:
            note = read_json(self.note, "note on an archive") if self.note.exists() else None
        except InputError:
            return None
        if not isinstance(note, dict) or not isinstance(note.get("members"), dict):
            return None
        wanted = {"sha256": self.remote.sha256, "md5": self.remote.md5}
        return note if all(w in (None, note.get(kind)) for kind, w in wanted.items()) else None


def size_of(path: Path) -> int | None:
    """Bytes of a file; None: there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def count_files(path: Path, at_most: int) -> int:
    """Files at a path: 1 for a file, for a folder those below it that are not hidden, as far as `at_most`."""
    if path.is_file():
        return 1
    count = 0
    for _, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        count += sum(not name.startswith(".") for name in names)
        if count >= at_most:
            return at_most
    return count
