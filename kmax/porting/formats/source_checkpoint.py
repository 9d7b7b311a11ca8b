"""A checkpoint file of any format as one thing: tensors by name, read one at a time, and metadata."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

Allocate = Callable[[int], NDArray[np.uint8]]


class Checkpoint(Mapping[str, NDArray[Any]]):
    """Tensors by name. Reading one may raise `InputError` if the file is corrupt.

    Attributes:
        path: file, or prefix of files, as the user knows it.
        metadata: texts that the file carries beside the tensors.
        ignored: reasons by name, of entries beside the tensors that are not read.
        notes: what the user should know about the choice of the tensors, one line each.
    """

    path: Path
    metadata: Mapping[str, str] = MappingProxyType({})
    ignored: Mapping[str, str] = MappingProxyType({})
    notes: tuple[str, ...] = ()

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
