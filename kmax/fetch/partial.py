"""A file that is on its way: `.NAME.part` and, beside it, of which version of which URL its bytes are."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from kmax import files
from kmax.errors import InputError


class Partial:
    """The bytes of a file that have come so far. They are appended in order, so that a killed process leaves
    a prefix of the file, which the next one continues.

    The note is written before the first byte, and the old bytes are gone before it: there are never bytes of
    another version than the note tells.

    Attributes:
        length: bytes of the whole file, where the server said so.
        validator: ETag or date of the version, where the server sent one.
    """

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self.data = path.with_name(f".{path.name}.part")
        self.note = path.with_name(f".{path.name}.part.json")
        self.url = url
        self.length: int | None = None
        self.validator: str | None = None
        if not self._read_note():
            self.discard()

    @property
    def offset(self) -> int:
        """Bytes that are there."""
        return self.data.stat().st_size if self.data.exists() else 0

    @property
    def complete(self) -> bool:
        """Whether all bytes are there that the server announced."""
        return bool(self.length) and self.offset == self.length

    def begin(self, length: int | None, validator: str | None) -> None:
        """Forget what was there, and note which version comes now."""
        self.discard()
        self.length, self.validator = length, validator
        note = {"url": self.url, "length": length, "validator": validator}
        with written(self.path):
            files.write_json(self.note, note)
            self.data.touch()

    def discard(self) -> None:
        """Forget what was there."""
        with written(self.path):
            self.data.unlink(missing_ok=True)
            self.note.unlink(missing_ok=True)
        self.length = self.validator = None

    def publish(self, name: str) -> None:
        """Flush the bytes to disk, and give them a name beside the file's own."""
        with written(self.path):
            with open(self.data, "rb") as stream:
                os.fsync(stream.fileno())
            os.replace(self.data, self.path.with_name(name))
            self.note.unlink(missing_ok=True)

    def _read_note(self) -> bool:
        """Take up the note that an earlier process left; False where there is none of use."""
        if not (self.note.exists() and self.data.exists()):
            return False
        try:
            note = files.read_json(self.note, "note on a download")
        except InputError:
            return False
        if not isinstance(note, dict) or note.get("url") != self.url:
            return False
        length, validator = note.get("length"), note.get("validator")
        if not isinstance(length, int | None) or not isinstance(validator, str | None):
            return False
        self.length, self.validator = length, validator
        return self.length is None or self.offset <= self.length


@contextlib.contextmanager
def written(path: Path) -> Iterator[None]:
    """Faults of the disk in one line; what is there stays.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
