"""Writing safetensors files tensor by tensor, so that a file larger than memory can be made.

Format: 8 bytes length, JSON header, then the tensors' bytes. The same tensors give the same bytes.
"""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kmax.errors import InputError
from kmax.files import atomic_path

CODES = {torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16"}
CODES |= {torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8"}
CODES |= {torch.bool: "BOOL"}
ALIGNMENT = 8
WRITERS = 2  # threads that convert and write tensors
BATCH = 2**20  # fewest bytes that are written at once
FLUSHED = 2**26  # bytes between flushes to the disk
CANNOT_RESERVE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)  # errors of file systems without support


@dataclass(frozen=True)
class Head:
    """Name, type and shape of a tensor that will be written."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return self.dtype.itemsize * math.prod(self.shape)


def write_tensors(
    path: Path,
    heads: Iterable[Head],
    metadata: Mapping[str, str],
    content: Callable[[str], Tensor],
    finish: Callable[[], Mapping[str, str]] | None = None,
) -> None:
    """Write a safetensors file, atomically; few tensors are in memory at a time.

    Args:
        path: of the file.
        heads: all tensors, in any order.
        metadata: texts to keep in the header.
        content: returns the tensor of a name, on the CPU, with the type and shape of its head. It is called
            once per name, from several threads; its memory may be reused at the same thread's next call.
        finish: called when all is written, before the file is moved to `path`; if it raises, no file appears
            there. Returns the final metadata, whose JSON must have the same length.

    Raises:
        InputError: `path` cannot be written, or the format does not support a type.
        ValueError: a tensor does not match the header, or the length of the metadata changed.
    """
    ordered = sorted(heads, key=lambda head: (-head.dtype.itemsize, head.name))
    header = _header(path, ordered, metadata)
    with atomic_path(path) as temporary, open(temporary, "wb", buffering=0) as stream:
        _reserve(stream.fileno(), len(header) + _size(ordered))
        _write(stream.fileno(), memoryview(header), 0)
        _write_content(stream.fileno(), len(header), ordered, content)
        if finish is not None:
            last = _header(path, ordered, finish())
            if len(last) != len(header):
                raise ValueError("the length of the metadata changed")
            _write(stream.fileno(), memoryview(last), 0)


def _reserve(file: int, size: int) -> None:
    """Reserve the file's blocks where the file system supports it, which avoids fragmentation."""
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno not in CANNOT_RESERVE:
            raise


def _write_content(file: int, start: int, heads: list[Head], content: Callable[[str], Tensor]) -> None:
    """Convert the tensors in several threads and write them at their offsets, from `start` on.

    Each thread reuses one buffer: allocating new memory costs more than filling it. Written data is flushed
    to the disk meanwhile.
    """
    batches = list(_batches(heads))
    largest = max(map(_size, batches), default=0)
    buffers, write_lock = threading.local(), threading.Lock()

    def write(batch: list[Head], place: int) -> int:
        if not hasattr(buffers, "own"):
            buffers.own = torch.from_numpy(np.empty(largest, dtype=np.uint8))  # NumPy asks for large pages
        filled = 0
        for head in batch:
            tensor = content(head.name)
            if tensor.dtype != head.dtype or tuple(tensor.shape) != head.shape:
                raise ValueError(
                    f"{head.name}: {tensor.dtype} {list(tensor.shape)} does not match the header"
                )
            target = buffers.own[filled : filled + head.size]
            # Torch transposes only matrices in blocks, so sides of 1 are removed.
            tensor = tensor.squeeze()
            target.view(head.dtype).view(tensor.shape).copy_(tensor)
            filled += head.size
        # The system serialises writes to a file, and its waiting threads would keep their cores.
        with write_lock:
            _write(file, buffers.own[:filled].numpy().data, place)
        return filled

    places = itertools.accumulate(map(_size, batches), initial=start)
    threads, unflushed = torch.get_num_threads(), 0
    try:  # each writer computes on one thread, so that they do not compete
        with ThreadPoolExecutor(WRITERS, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for size in pool.map(write, batches, places):
                unflushed += size
                if unflushed >= FLUSHED:
                    os.fdatasync(file)
                    unflushed = 0
    finally:
        torch.set_num_threads(threads)  # a thread's setting holds for all threads that start later


def _batches(heads: list[Head]) -> Iterator[list[Head]]:
    """Consecutive tensors that are written at once, of `BATCH` bytes or more together."""
    batch: list[Head] = []
    size = 0
    for head in heads:
        batch.append(head)
        size += head.size
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _size(heads: list[Head]) -> int:
    return sum(head.size for head in heads)


def _write(file: int, content: memoryview, place: int) -> None:
    """Write all of the content from `place` on; a system call may write less."""
    while content:
        written = os.pwrite(file, content, place)
        content, place = content[written:], place + written


def _header(path: Path, heads: list[Head], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    at = 0
    for head in heads:
        if head.dtype not in CODES or head.name == "__metadata__":
            raise InputError(
                f"{path}: tensor '{head.name}' of type {head.dtype} is not supported by safetensors"
            )
        places = [at, at + head.size]
        header[head.name] = {"dtype": CODES[head.dtype], "shape": list(head.shape), "data_offsets": places}
        at += head.size
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
