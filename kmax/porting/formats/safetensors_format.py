"""Checkpoints in safetensors files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from kmax.errors import InputError
from kmax.file_kinds import SAFETENSORS, instead_of
from kmax.porting.formats.source_checkpoint import Checkpoint

# Names of types, as numpy's.
TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64"}
TYPES |= {"I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}


def open_file(path: Path) -> Checkpoint:
    """Open a safetensors file.

    Raises:
        InputError: the file is corrupt.
    """
    return SafetensorsFile(path)


class SafetensorsFile(Checkpoint):
    """A safetensors file; bfloat16 is widened to float32."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = cast(Any, safe_open(path, framework="pt"))
            self.metadata = dict(self._file.metadata() or {})
            self._heads: dict[str, tuple[tuple[int, ...], str]] = {}
            for name in self._file.keys():  # noqa: SIM118 - not a mapping
                part = self._file.get_slice(name)
                self._heads[name] = tuple(part.get_shape()), part.get_dtype()
        except (SafetensorError, OSError, UnicodeDecodeError) as error:
            raise _fault(path, error) from error

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
        """Shape and type of a tensor, without reading it."""
        shape, dtype = self._heads[name]
        return shape, TYPES.get(dtype, dtype)


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, which may be empty.

    Raises:
        InputError: the file is corrupt.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _fault(path, error) from error


def _fault(path: Path, error: Exception) -> InputError:
    what = instead_of(path, SAFETENSORS) or _one_line(error)
    return InputError(f"{path}: not a readable safetensors file: {what}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
