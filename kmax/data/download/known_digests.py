"""Digests of files, computed once as long as size and time of change stay the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from kmax.errors import InputError
from kmax.files import file_digest, read_json, write_json
from kmax.parallel import map_items


class KnownDigests:
    """Digests of files below a folder, remembered in a JSON file that may be lost or deleted at any time."""

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
        """Digests of files below the root; those that are not known are computed by several processes.

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
        """Take a digest that was compared with the file a moment ago."""
        self._known[f"{kind} {name}"] = [_stamp(self._root / name), digest]
        self._changed = True

    def agree(self, names: Mapping[str, str]) -> bool:
        """Whether files have the SHA-256 that is given, as far as size and time of change tell."""
        return all(self._known.get(f"sha256 {n}") == [_stamp(self._root / n), d] for n, d in names.items())

    def save(self) -> None:
        """Remember what was computed."""
        if self._changed:
            write_json(self._path, {"root": str(self._root.absolute()), "files": self._known})
            self._changed = False


def _stamp(path: Path) -> list[int]:
    """Size and time of change; a file that is not there has none."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


def _digest(root: Path, kind: str, name: str) -> str:
    return file_digest(root / name, kind)
