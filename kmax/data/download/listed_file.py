"""A file that a dataset lists by URL: its possible locations, completeness and digests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kmax.data.layouts.layout import RemoteFile
from kmax.errors import InputError
from kmax.files import file_digest, read_json, write_json
from kmax.folders import list_files
from kmax.processes.parallel import map_items

OWN_FOLDER = ".downloads"
OWN_MANIFEST = "manifest.json"  # written into the root when a download is complete


@dataclass(frozen=True)
class ListedFile:
    """A listed file and its paths."""

    remote: RemoteFile
    root: Path

    @property
    def place(self) -> Path:
        """Where a user may put it, and its final path unless it is unpacked."""
        return self.root / self.remote.path

    @property
    def download_path(self) -> Path:
        """Its path during the download."""
        return self.root / OWN_FOLDER / self.remote.path

    @property
    def note(self) -> Path:
        """The record of the files extracted from the archive."""
        return self.download_path.with_name(f"{self.download_path.name}.unpacked.json")

    @property
    def work(self) -> Path:
        """A folder that exists while unpacking is incomplete, including after a kill."""
        return self.download_path.with_name(f"{self.download_path.name}.unpacking")

    def is_unpacked(self) -> bool:
        """Whether the archive's content is complete: by its note, or by the numbers of files."""
        note = self.read_note()
        if note is not None:
            return all(size_of(self.root / name) == size for name, size in note["members"].items())
        held = self.remote.holds
        if not held or self.work.exists():
            return False
        return all(count_files(self.root / name, at_most=number) == number for name, number in held.items())

    @property
    def archive(self) -> Path | None:
        """Its current path; None: it does not exist."""
        return next((path for path in (self.place, self.download_path) if path.is_file()), None)

    def is_done(self) -> bool:
        """Whether there is nothing left to download, move or unpack."""
        if not self.remote.unpack:
            return self.place.is_file()
        return self.archive in (None, self.place) and self.is_unpacked() and not self.work.exists()

    def remember(self, digests: KnownDigests) -> None:
        """Note the digests that were checked during the download, so that they are not computed again."""
        name = self.download_path.relative_to(self.root).as_posix()
        for kind, digest in (("sha256", self.remote.sha256), ("md5", self.remote.md5)):
            if digest is not None:
                digests.remember(name, kind, digest)

    def read_note(self) -> dict[str, Any] | None:
        """The note, if it describes the listed archive."""
        try:
            note = read_json(self.note, "note on an archive") if self.note.exists() else None
        except InputError:
            return None
        if not isinstance(note, dict) or not isinstance(note.get("members"), dict):
            return None
        stated = {"sha256": self.remote.sha256, "md5": self.remote.md5}
        return note if all(w in (None, note.get(kind)) for kind, w in stated.items()) else None


def size_of(path: Path) -> int | None:
    """Bytes of a file; None: it does not exist."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def count_files(path: Path, at_most: int) -> int:
    """Files at a path: 1 for a file, for a folder those below it that count; at most `at_most`."""
    if path.is_file():
        return 1
    return min(at_most, len(list_files(path).names)) if path.is_dir() else 0


class KnownDigests:
    """Digests of files below a folder, computed once as long as size and modification time stay the same.

    They are kept in a JSON file, which may be deleted at any time.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self._path, self._root = path, root
        self._known: dict[str, Any] = {}
        try:
            content = read_json(path, "known digests") if path.exists() else {}
        except InputError:
            content = {}
        if isinstance(content, dict) and content.get("root") == str(root.absolute()):
            found = content.get("files")
            self._known = found if isinstance(found, dict) else {}
        self._changed = False

    def of(self, names: Iterable[str], task: str, kind: str = "sha256") -> dict[str, str]:
        """Digests of files below the root; unknown ones are computed by several processes.

        Args:
            kind: a name that hashlib knows.
        """
        stamps = {name: _stamp(self._root / name) for name in names}
        found: dict[str, str] = {}
        for name, stamp in stamps.items():
            entry = self._known.get(f"{kind} {name}")
            if isinstance(entry, list) and len(entry) == 2 and entry[0] == stamp:
                found[name] = str(entry[1])
        missing = [name for name in stamps if name not in found]
        if missing:
            digests = map_items(partial(_digest, self._root, kind), missing, task)
            for name, digest in zip(missing, digests, strict=True):
                found[name] = digest
                self._known[f"{kind} {name}"] = [stamps[name], digest]
            self._changed = True
        return {name: found[name] for name in stamps}

    def remember(self, name: str, kind: str, digest: str) -> None:
        """Add a digest that was just computed from the file."""
        self._known[f"{kind} {name}"] = [_stamp(self._root / name), digest]
        self._changed = True

    def agree(self, names: Mapping[str, str]) -> bool:
        """Whether files have the given SHA-256, according to size and modification time."""
        return all(self._known.get(f"sha256 {n}") == [_stamp(self._root / n), d] for n, d in names.items())

    def save(self) -> None:
        """Write the computed digests; if that is not possible, they are computed again the next time."""
        if self._changed:
            with contextlib.suppress(InputError):
                write_json(self._path, {"root": str(self._root.absolute()), "files": self._known})
            self._changed = False


def _stamp(path: Path) -> list[int]:
    """Size and modification time; empty for a file that does not exist."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


def _digest(root: Path, kind: str, name: str) -> str:
    return file_digest(root / name, kind)
