"""Which files of a folder `predict-images` wrote: their checksums are recorded in its panoptic.json.

A file whose content is not recorded belongs to the user, and is not replaced. While the command runs, the
checksums stand in a journal, which the next call reads if the command was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kmax.files import atomic_path, sha256, write_json, write_text
from kmax.outputs import json_object

PANOPTIC_JSON = "panoptic.json"
JOURNAL = ".predict-images.jsonl"
FILES = "files"  # key of the checksums in the JSON


class OutputRecord:
    """The files that were written to a folder, by this call and earlier ones.

    Args:
        folder: it may be missing; nothing is written before `start`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, set[str]] = {}  # SHA-256 of each content that was written, by name
        self._written: dict[str, str] = {}  # by this call
        self._journal = folder / JOURNAL
        for name, checksum in (*self._recorded(), *self._journalled()):
            self._known.setdefault(name, set()).add(checksum)

    def is_ours(self, path: Path) -> bool:
        """Whether an existing file of the folder has the content that was written under its name."""
        if path.name == PANOPTIC_JSON and path.parent == self._folder:
            return FILES in json_object(path)
        checksums = self._known.get(os.path.relpath(path, self._folder))
        return checksums is not None and sha256(path) in checksums

    def start(self) -> None:
        """Begin to write: from here on, an old panoptic.json no longer describes the folder.

        Raises:
            InputError: the folder cannot be written.
        """
        lines = [_line(name, one) for name, known in sorted(self._known.items()) for one in sorted(known)]
        write_text(self._journal, "".join(lines))
        (self._folder / PANOPTIC_JSON).unlink(missing_ok=True)

    @contextlib.contextmanager
    def writing(self, path: Path) -> Iterator[Path]:
        """Yield a temporary path beside `path`; on success it is recorded, and renamed to `path`.

        Raises:
            InputError: the file cannot be written.
        """
        with atomic_path(path) as temporary:
            yield temporary
            name, checksum = os.path.relpath(path, self._folder), sha256(temporary)
            self._known.setdefault(name, set()).add(checksum)
            self._written[name] = checksum
            with open(self._journal, "a", encoding="utf-8") as stream:
                stream.write(_line(name, checksum))

    @contextlib.contextmanager
    def all_or_none(self, paths: Sequence[Path]) -> Iterator[None]:
        """If the block fails, the files that belong together are removed, as far as they were written."""
        try:
            yield
        except BaseException:
            for path in paths:
                if self._written.pop(os.path.relpath(path, self._folder), None) is not None:
                    path.unlink(missing_ok=True)
            raise

    def finish(self, content: dict[str, Any]) -> None:
        """Write panoptic.json with the checksums of all files that exist, and remove the journal.

        Args:
            content: of the JSON.

        Raises:
            InputError: it cannot be written.
        """
        files = {name: self._checksum(name) for name in self._known}
        files = {name: checksum for name, checksum in files.items() if checksum in self._known[name]}
        write_json(self._folder / PANOPTIC_JSON, {**content, FILES: files})
        self._journal.unlink(missing_ok=True)

    def _checksum(self, name: str) -> str:
        """Of a file as it is now; empty if it cannot be read."""
        if name in self._written:
            return self._written[name]
        try:
            return sha256(self._folder / name)
        except OSError:
            return ""

    def _recorded(self) -> Iterator[tuple[str, str]]:
        with contextlib.suppress(OSError):
            files = json_object(self._folder / PANOPTIC_JSON).get(FILES)
            if isinstance(files, dict):
                yield from ((name, one) for name, one in files.items() if isinstance(one, str))

    def _journalled(self) -> Iterator[tuple[str, str]]:
        """Lines of the journal; the last one may be incomplete."""
        with contextlib.suppress(OSError):
            for line in self._journal.read_bytes().splitlines():
                with contextlib.suppress(ValueError, RecursionError):
                    match json.loads(line):
                        case [str(name), str(checksum)]:
                            yield name, checksum


def _line(name: str, checksum: str) -> str:
    # A line break first: the line before may be incomplete.
    return f"\n{json.dumps([name, checksum])}\n"
