"""Checkpoint files of any of the three kinds as one thing: tensors by name, read one at a time."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import google_crc32c
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from kmax.errors import InputError
from kmax.porting.pickles import PickledTensors, read_pickled
from kmax.porting.tensorflow import Bundle, find_prefix
from kmax.porting.tensorflow.checksum import unmasked
from kmax.porting.tensorflow.entry import BFLOAT16
from kmax.porting.tensorflow.object_graph import variable_names

Kind = Literal["tf", "torch", "safetensors"]
Room = Callable[[int], NDArray[np.uint8]]
# safetensors' names of types, as numpy's; bfloat16 is widened when it is read.
TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64"}
TYPES |= {"I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}


class Checkpoint(Mapping[str, NDArray[Any]]):
    """Tensors by name. Reading one may raise `InputError`: damaged.

    Attributes:
        path: file, or prefix of files, as the user knows it.
    """

    path: Path

    def __contains__(self, name: object) -> bool:
        """Whether there is a tensor of that name, told without reading it."""
        with contextlib.suppress(KeyError):
            self.describe(str(name))
            return True
        return False

    @abstractmethod
    def describe(self, name: str) -> tuple[tuple[int, ...], str]:
        """Shape and type ("float32", "bfloat16", "string", ...) without reading the tensor."""

    def read(self, name: str, room: Room) -> NDArray[Any]:
        """The tensor, which may lie in memory that `room` gave for so many bytes."""
        return self[name]

    def files(self) -> list[Path]:
        """All its files."""
        return [self.path]

    def digested(self) -> list[Path]:
        """The files whose bytes tell the checkpoint from others."""
        return self.files()

    def checksum(self, name: str, array: NDArray[Any]) -> int:
        """CRC-32C of a tensor's values as they were read."""
        found: int = google_crc32c.value(np.ascontiguousarray(array))
        return found

    def variables(self) -> dict[str, str]:
        """What the writing program called a tensor's variable, where the file says so."""
        return {}


class _Pickled(Checkpoint):
    def __init__(self, path: Path) -> None:
        self.path = path
        self._tensors: PickledTensors = read_pickled(path)

    def __len__(self) -> int:
        return len(self._tensors)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._tensors[name]

    def describe(self, name: str) -> tuple[tuple[int, ...], str]:
        return self._tensors.describe(name)


class _TensorFlow(Checkpoint):
    def __init__(self, path: Path) -> None:
        self.path = find_prefix(path)
        self._bundle = Bundle(self.path)

    def __len__(self) -> int:
        return len(self._bundle)

    def __iter__(self) -> Iterator[str]:
        return iter(self._bundle)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._bundle[name]

    def read(self, name: str, room: Room) -> NDArray[Any]:
        return self._bundle.read(name, room)

    def describe(self, name: str) -> tuple[tuple[int, ...], str]:
        entry = self._bundle.entries[name]
        return entry.shape, entry.dtype_name

    def files(self) -> list[Path]:
        return self._bundle.files()

    def digested(self) -> list[Path]:
        """The index, which has a checksum of every tensor."""
        return [self._bundle.index]

    def checksum(self, name: str, array: NDArray[Any]) -> int:
        """The one that it was just compared with, where its bytes are kept as they are."""
        entry = self._bundle.entries[name]
        return super().checksum(name, array) if entry.dtype == BFLOAT16 else unmasked(entry.crc)

    def variables(self) -> dict[str, str]:
        return variable_names(self._bundle)


class _Safetensors(Checkpoint):
    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = cast(Any, safe_open(path, framework="pt"))
            self._heads: dict[str, tuple[tuple[int, ...], str]] = {}
            for name in self._file.keys():  # noqa: SIM118 - no mapping
                part = self._file.get_slice(name)
                self._heads[name] = tuple(part.get_shape()), part.get_dtype()
        except (SafetensorError, OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not a readable safetensors file: {_one_line(error)}") from error

    def __len__(self) -> int:
        return len(self._heads)

    def __iter__(self) -> Iterator[str]:
        return iter(self._heads)

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._heads:
            raise KeyError(name)
        try:
            tensor = self._file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{self.path}: tensor '{name}': {_one_line(error)}") from error
        array: NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        return array

    def describe(self, name: str) -> tuple[tuple[int, ...], str]:
        shape, dtype = self._heads[name]
        return shape, TYPES.get(dtype, dtype)


KINDS: dict[str, Callable[[Path], Checkpoint]] = {
    "tf": _TensorFlow,
    "torch": _Pickled,
    "safetensors": _Safetensors,
}


def open_checkpoint(path: Path, kind: Kind) -> Checkpoint:
    """Open a checkpoint and look at its names; tensors are read when asked for.

    Args:
        path: a file; for "tf" what its files begin with, or a folder that holds one checkpoint.
        kind: what wrote it.

    Raises:
        InputError: missing, damaged, of another kind, or without tensors.
    """
    if kind != "tf" and not path.is_file():
        raise InputError(f"{path}: checkpoint not found")
    checkpoint = KINDS[kind](path)
    for name in checkpoint:
        if not name.isprintable():
            raise InputError(f"{path}: the name {name[:80]!r} of a tensor is not text")
    if not checkpoint:
        raise InputError(f"{path}: holds no tensors")
    return checkpoint


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty where it has none."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
