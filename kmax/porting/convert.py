"""Checkpoint in, model file out, one tensor at a time, whatever the checkpoint's size."""

from __future__ import annotations

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
from kmax.porting.checkpoint import Checkpoint, is_finite
from kmax.porting.entries import Entry

_WARNING_FILTERS = threading.Lock()  # they are the process's, and tensors are made in several threads


def read_source(checkpoint: Checkpoint, name: str, account: Account) -> Tensor:
    """One tensor as float32; its line gets the checksum of its values, and is told if they are not finite."""
    array, line = checkpoint[name], account.lines[name]
    if not is_finite(array):
        line.fate = "not finite"
    if line.crc32c is None:
        line.crc32c = f"{checkpoint.checksum(name, array):08x}"
    return convert_tensor(np.asarray(array, dtype=np.float32))


def convert_tensor(array: NDArray[Any]) -> Tensor:
    """The array as a tensor, on the same memory if its byte order is this machine's; nobody writes to it."""
    array = np.asarray(array, dtype=array.dtype.newbyteorder("="))
    with _WARNING_FILTERS, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def check_values(checkpoint: Checkpoint, account: Account) -> None:
    """Read all tensors that find their place, for those whose values are not finite."""
    for line in account.lines.values():
        if line.fate == "mapped":
            read_source(checkpoint, line.name, account)


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

    def content(name: str) -> Tensor:
        entry = by_target[name]
        tensor: Tensor = entry.convert(
            *(read_source(checkpoint, source, account) for source in entry.sources)
        )
        return tensor

    write_tensors(out, heads, {KEY: metadata}, content, lambda: {KEY: finish()})
