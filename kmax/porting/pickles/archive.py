"""Torch's zip archive: looked at before `zipfile` takes memory for it."""

from __future__ import annotations

import zipfile
from pathlib import Path

from kmax.porting.pickles.values import RefusedError

# 20000 tensors; `zipfile` takes up to 16 times the size of the directory.
MAX_DIRECTORY_BYTES = 2 * 2**20
START = b"PK\x03\x04"
END, END_SIZE, LOCATOR_SIZE = b"PK\x05\x06", 22, 20


def starts_like_zip(path: Path) -> bool:
    """Whether the file begins as a zip archive with entries does."""
    with open(path, "rb") as stream:
        return stream.read(len(START)) == START


def check_directory(path: Path) -> None:
    """Refuse a zip file whose directory is larger than any checkpoint's.

    Raises:
        RefusedError: it is.
    """
    with open(path, "rb") as stream:
        size = stream.seek(0, 2)
        tail_size = min(size, END_SIZE + LOCATOR_SIZE + 0xFFFF)
        stream.seek(size - tail_size)
        tail = stream.read(tail_size)
        at = tail.rfind(END)
        directory = int.from_bytes(tail[at + 12 : at + 16], "little")
        if at >= LOCATOR_SIZE and tail[at - LOCATOR_SIZE : at - LOCATOR_SIZE + 4] == b"PK\x06\x07":
            offset = int.from_bytes(tail[at - 12 : at - 4], "little")  # of the record with 64-bit sizes
            if offset < size:
                stream.seek(offset + 40)
                directory = max(
                    directory if directory != 0xFFFFFFFF else 0, int.from_bytes(stream.read(8), "little")
                )
    if at >= 0 and directory > MAX_DIRECTORY_BYTES:
        raise RefusedError("a directory of more entries than a checkpoint has")


def check_entries(archive: zipfile.ZipFile, size: int) -> None:
    """Torch stores its entries as they are: one that is compressed, or larger than the file, is not torch's.

    Raises:
        RefusedError: there is such an entry.
    """
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or (
        sum(entry.file_size for entry in entries) > size
    ):
        raise RefusedError("a compressed archive")
