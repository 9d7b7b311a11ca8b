"""A checkpoint file of any format as one thing: tensors by name, read one at a time, and metadata."""

from __future__ import annotations

import contextlib
import importlib
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from kmax.checkpoint_formats import CheckpointFormat
from kmax.errors import InputError

Allocate = Callable[[int], NDArray[np.uint8]]


class Checkpoint(Mapping[str, NDArray[Any]]):
    """Tensors by name. Reading one may raise `InputError` if the file is corrupt.

    Attributes:
        path: file, or prefix of files, as the user knows it.
        metadata: texts that the file carries beside the tensors.
    """

    path: Path
    metadata: Mapping[str, str] = MappingProxyType({})

    def __contains__(self, name: object) -> bool:
        """Whether there is a tensor of that name; it is not read."""
        with contextlib.suppress(KeyError):
            self.describe(str(name))
            return True
        return False

    @abstractmethod
    def describe(self, name: str) -> tuple[tuple[int, ...], str]:
        """Shape and type ("float32", "bfloat16", "string", ...) without reading the tensor."""

    def read(self, name: str, allocate: Allocate) -> NDArray[Any]:
        """The tensor, which may use memory from `allocate`, a function of the number of bytes."""
        return self[name]

    def files(self) -> list[Path]:
        """All its files."""
        return [self.path]

    def digested(self) -> list[Path]:
        """The files whose bytes identify the checkpoint."""
        return self.files()

    def checksum(self, name: str, array: NDArray[Any]) -> int:
        """CRC-32C of a tensor's values as they were read."""
        found: int = google_crc32c.value(np.ascontiguousarray(array))
        return found

    def variables(self) -> dict[str, str]:
        """The names of the writing program's variables by tensor, if the file states them."""
        return {}


def open_checkpoint(path: Path, source: CheckpointFormat) -> Checkpoint:
    """Open a checkpoint and read its names; tensors are read on demand.

    The format's module is `kmax.porting.formats.<source>_format`, whose `open_file` takes the path.

    Args:
        path: a file; for "tf" the common prefix of its files, or a folder with one checkpoint.
        source: the file's format.

    Raises:
        InputError: missing, corrupt, of another format, or without tensors.
    """
    if source != "tf" and not path.is_file():
        raise InputError(f"{path}: checkpoint not found")
    module = importlib.import_module(f"kmax.porting.formats.{source}_format")
    checkpoint: Checkpoint = module.open_file(path)
    for name in checkpoint:
        if not name.isprintable():
            raise InputError(f"{path}: the tensor name {name[:80]!r} is not a printable string")
    if not checkpoint:
        raise InputError(f"{path}: contains no tensors")
    return checkpoint
