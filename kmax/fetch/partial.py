"""A partial download: `.NAME.part`, and beside it a note of the URL and version that its bytes come from.

The URL is noted without its password and tokens: they do not identify the file, and may change between calls.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from kmax import files
from kmax.errors import InputError
from kmax.urls import has_credentials, without_credentials


class Partial:
    """The bytes of a file that were received so far. They are appended in order: a killed process leaves a
    prefix of the file, which the next one continues.

    Old bytes are removed before the note is written, and the note is written before the first byte: the bytes
    are always of the version that the note states.

    Attributes:
        length: bytes of the whole file, if the server stated them.
        validator: ETag or date of the version, if the server sent one.
        shown_url: the URL for messages.
    """

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self.data = path.with_name(f".{path.name}.part")
        self.note = path.with_name(f".{path.name}.part.json")
        self.url = url
        self.shown_url = without_credentials(url)
        self.length: int | None = None
        self.validator: str | None = None
        if not self._read_note():
            self.discard()

    @property
    def offset(self) -> int:
        """Number of received bytes."""
        return self.data.stat().st_size if self.data.exists() else 0

    @property
    def complete(self) -> bool:
        """Whether all announced bytes were received."""
        return bool(self.length) and self.offset == self.length

    def begin(self, length: int | None, validator: str | None) -> None:
        """Discard the bytes, and note the version that is received now."""
        self.discard()
        self.length, self.validator = length, validator
        self._write_note()
        with written(self.path):
            self.data.touch()

    def discard(self) -> None:
        """Discard the bytes."""
        with written(self.path):
            self.data.unlink(missing_ok=True)
            self.note.unlink(missing_ok=True)
        self.length = self.validator = None

    def publish(self, name: str) -> None:
        """Flush the bytes to disk, and rename them to `name` in the file's folder."""
        with written(self.path):
            with open(self.data, "rb") as stream:
                os.fsync(stream.fileno())
            os.replace(self.data, self.path.with_name(name))
            self.note.unlink(missing_ok=True)

    def _read_note(self) -> bool:
        """Read the note of an earlier process; False: there is none, or it does not apply."""
        if not (self.note.exists() and self.data.exists()):
            return False
        try:
            note = files.read_json(self.note, "note on a download")
        except InputError:
            return False
        url = note.get("url") if isinstance(note, dict) else None
        if not isinstance(url, str) or without_credentials(url) != self.shown_url:
            return False
        length, validator = note.get("length"), note.get("validator")
        if not isinstance(length, int | None) or not isinstance(validator, str | None):
            return False
        self.length, self.validator = length, validator
        if has_credentials(url):  # written by an earlier release
            self._write_note()
        return self.length is None or self.offset <= self.length

    def _write_note(self) -> None:
        note = {"url": self.shown_url, "length": self.length, "validator": self.validator}
        with written(self.path):
            files.write_json(self.note, note)


@contextlib.contextmanager
def written(path: Path) -> Iterator[None]:
    """Report faults of the disk in one line; existing files stay.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise files.cannot_write(path, error) from error
