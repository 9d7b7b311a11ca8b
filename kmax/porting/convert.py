"""Conversion of a checkpoint into a model file, one tensor at a time, so that memory stays bounded.

The SHA-256 of the checkpoint's files is computed meanwhile.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from kmax.porting.formats import Allocate, Checkpoint
from kmax.porting.tensor_mapping import TensorMapping

ALIGNMENT = 64  # bytes, of values in a thread's memory
BLOCK = 2**20  # bytes that are hashed at a time
UNKNOWN = "0" * 64  # stands for a SHA-256 that is not computed yet
_WARNING_FILTERS = threading.Lock()  # they are the process's, and tensors are made in several threads


class _Scratch(threading.local):
    """Memory of a thread for source tensors, which is reused: new memory costs more than filling it."""

    def __init__(self) -> None:
        self._memory = np.empty(0, dtype=np.uint8)
        self._used = 0

    def free(self) -> None:
        """Allow all of it to be overwritten."""
        self._used = 0

    def take(self, size: int) -> NDArray[np.uint8]:
        """`size` bytes for values of any type, which stay valid until `free`."""
        if self._used + size > len(self._memory):
            self._memory, self._used = np.empty(size, dtype=np.uint8), 0  # others may hold the former
        taken = self._memory[self._used : self._used + size]
        self._used += -(-size // ALIGNMENT) * ALIGNMENT
        return taken


def read_source(checkpoint: Checkpoint, name: str, account: Account, allocate: Allocate) -> Tensor:
    """One tensor as float32; the account records its checksum, and whether it is not finite."""
    array, line = checkpoint.read(name, allocate), account.lines[name]
    if line.crc32c is None:
        line.crc32c = f"{checkpoint.checksum(name, array):08x}"
    with np.errstate(over="ignore"):  # numbers too large for float32 are recorded below
        tensor = convert_tensor(np.asarray(array, dtype=np.float32))
    if not is_finite(tensor):
        line.status = "not finite"
    return tensor


def is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite: the sum of their squares is, or, if it overflows, each of them."""
    if tensor.is_contiguous():
        row = tensor.view(-1)
        if math.isfinite(torch.dot(row, row)):
            return True
    return bool(tensor.isfinite().all())


def convert_tensor(array: NDArray[Any]) -> Tensor:
    """The array as a tensor, on the same memory if its byte order is native; not to be written to."""
    array = np.asarray(array, dtype=array.dtype.newbyteorder("="))
    if array.flags.writeable:
        return torch.from_numpy(array)
    with _WARNING_FILTERS, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def check_values(checkpoint: Checkpoint, account: Account) -> None:
    """Read all mapped tensors, so that those that are not finite are reported with the other faults."""
    scratch = _Scratch()
    for line in account.lines.values():
        if line.status == "mapped":
            scratch.free()
            read_source(checkpoint, line.name, account, scratch.take)


def write_model(
    out: Path,
    model: KMaX,
    entries: Sequence[TensorMapping],
    checkpoint: Checkpoint,
    account: Account,
    metadata: str,
    finish: Callable[[], str],
) -> None:
    """Write the model's file from the checkpoint.

    Args:
        out: safetensors file to write.
        model: may be on the meta device; only names and shapes of its tensors are used.
        entries: one for each of them.
        checkpoint: read tensor by tensor.
        account: without faults; checksums and non-finite values are recorded in it.
        metadata: the model's metadata (`kmax.model.io.metadata_text`).
        finish: called when all is written, before the file appears; it may raise. Returns the final metadata,
            of the same length.
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


@contextlib.contextmanager
def hashing(paths: Sequence[Path], known: str | None = None) -> Iterator[Callable[[], str]]:
    """Hash the concatenation of files in a thread; the yielded function waits for the digest.

    Args:
        paths: of the files, in order.
        known: the digest, if it is known: nothing is read then.
    """
    if known is not None:
        yield lambda: known
        return
    stopped = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(_sha256, paths, stopped)
        try:
            yield future.result
        finally:
            stopped.set()


def sha256_of(paths: Sequence[Path]) -> str:
    """SHA-256 of the concatenation of files."""
    return _sha256(paths, threading.Event())


def _sha256(paths: Sequence[Path], stopped: threading.Event) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb", buffering=0) as stream:
            while not stopped.is_set() and (block := stream.read(BLOCK)):
                digest.update(block)
    return digest.hexdigest()
