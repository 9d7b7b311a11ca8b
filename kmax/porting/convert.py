"""Checkpoint in, model file out, one tensor at a time, whatever the checkpoint's size."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kmax.model.io import KEY
from kmax.model.kmax import KMaX
from kmax.model.tensor_file import Head, write_tensors
from kmax.porting.account import Account
from kmax.porting.entries import Entry
from kmax.porting.source_checkpoint import Checkpoint, Room

ALIGNMENT = 64  # bytes, of values in a thread's memory
_WARNING_FILTERS = threading.Lock()  # they are the process's, and tensors are made in several threads


class _Scratch(threading.local):
    """Memory of a thread for what a tensor is made from: fresh memory costs more than filling it."""

    def __init__(self) -> None:
        self._memory = np.empty(0, dtype=np.uint8)
        self._used = 0

    def free(self) -> None:
        """All of it may be overwritten."""
        self._used = 0

    def take(self, size: int) -> NDArray[np.uint8]:
        """So many bytes that nobody else uses until `free`, for values of any type."""
        if self._used + size > len(self._memory):
            self._memory, self._used = np.empty(size, dtype=np.uint8), 0  # others may hold the former
        taken = self._memory[self._used : self._used + size]
        self._used += -(-size // ALIGNMENT) * ALIGNMENT
        return taken


def read_source(checkpoint: Checkpoint, name: str, account: Account, room: Room) -> Tensor:
    """One tensor as float32; its line gets the checksum of its values, and is told if they are not finite."""
    array, line = checkpoint.read(name, room), account.lines[name]
    if line.crc32c is None:
        line.crc32c = f"{checkpoint.checksum(name, array):08x}"
    with np.errstate(over="ignore"):  # a larger type's numbers may be too large for this one: told below
        tensor = convert_tensor(np.asarray(array, dtype=np.float32))
    if not is_finite(tensor):
        line.fate = "not finite"
    return tensor


def is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite; the sum of their squares tells, unless it overflows."""
    if tensor.is_contiguous():
        row = tensor.view(-1)
        if math.isfinite(torch.dot(row, row)):
            return True
    return bool(tensor.isfinite().all())


def convert_tensor(array: NDArray[Any]) -> Tensor:
    """The array as a tensor, on the same memory if its byte order is this machine's; nobody writes to it."""
    array = np.asarray(array, dtype=array.dtype.newbyteorder("="))
    if array.flags.writeable:
        return torch.from_numpy(array)
    with _WARNING_FILTERS, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def check_values(checkpoint: Checkpoint, account: Account) -> None:
    """Read all tensors that find their place, for those whose values are not finite."""
    scratch = _Scratch()
    for line in account.lines.values():
        if line.fate == "mapped":
            scratch.free()
            read_source(checkpoint, line.name, account, scratch.take)


def write_model(
    out: Path,
    model: KMaX,
    entries: Sequence[Entry],
    checkpoint: Checkpoint,
    account: Account,
    metadata: str,
    finish: Callable[[], str],
) -> None:
    """Write the model's file from the checkpoint.

    Args:
        out: safetensors file to write.
        model: may be on the meta device; its tensors' names and shapes count.
        entries: one for each of them.
        checkpoint: read tensor by tensor.
        account: says that all fit; gets checksums, and what is not finite.
        metadata: the file's text about itself (`kmax.model.io.metadata_text`).
        finish: called when all is written and before the file is there; raises to have none. Returns the text
            about itself that the file gets in the end, of the same length.
    """
    by_target = {entry.target: entry for entry in entries}
    heads = [Head(name, value.dtype, tuple(value.shape)) for name, value in model.state_dict().items()]

    scratch = _Scratch()

    def content(name: str) -> Tensor:
        scratch.free()
        entry = by_target[name]
        sources = (read_source(checkpoint, source, account, scratch.take) for source in entry.sources)
        tensor: Tensor = entry.convert(*sources)
        return tensor

    write_tensors(out, heads, {KEY: metadata}, content, lambda: {KEY: finish()})
