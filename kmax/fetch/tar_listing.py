"""Tar archives whose list of members is read within bounded memory.

A header may announce any number of bytes of names and notes (pax, long names, maps of holes), and tarfile
reads them whole; compressed, gigabytes of them fit into a megabyte.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

LONGEST_READ = 2**16  # bytes of one header; a path takes a few hundred
MOST_READ = 2**26  # bytes of all headers, 512 each or a few times that, beside
MOST_TIMES = 8  # the size of the archive
_COMPRESSIONS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}


class _Bounded:
    """The stream of a tar, with at most `left` more bytes readable while `left` is a number."""

    def __init__(self, stream: IO[bytes], left: int) -> None:
        self._stream = stream
        self.left: int | None = left

    def read(self, size: int) -> bytes:
        """Read like the stream.

        Raises:
            tarfile.ReadError: too much, while the list of members is read.
        """
        if self.left is not None:
            if not 0 <= size <= LONGEST_READ:
                raise tarfile.ReadError(f"a header of {size} bytes, larger than in any valid archive")
            self.left -= size
            if self.left < 0:
                raise tarfile.ReadError("headers larger than the archive itself")
        return self._stream.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def open_tar(archive: Path) -> Iterator[tuple[tarfile.TarFile, Iterator[tarfile.TarInfo]]]:
    """A tar, plain or compressed, and its members; iterate over all of them before opening any.

    Raises:
        tarfile.ReadError: not a tar, or its headers are implausibly large.
    """
    with open(archive, "rb") as file:
        start = file.read(max(map(len, _COMPRESSIONS)))
    opener = next((way for magic, way in _COMPRESSIONS.items() if start.startswith(magic)), open)
    with opener(archive, "rb") as stream:
        bounded: Any = _Bounded(stream, MOST_READ + MOST_TIMES * archive.stat().st_size)
        with tarfile.TarFile(fileobj=bounded) as tarred:

            def members() -> Iterator[tarfile.TarInfo]:
                yield from tarred
                bounded.left = None

            yield tarred, members()
