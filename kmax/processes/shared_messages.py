"""Python objects between two processes: small ones through a socket, large arrays in anonymous memory.

The memory (memfd) has no name and no size limit of its own. So neither /dev/shm nor the folder of temporary
files is used, whatever their size, length or permissions. Systems without memfd use an unlinked file.
"""

from __future__ import annotations

import contextlib
import errno
import io
import math
import mmap
import os
import pickle
import socket
import struct
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

INLINE_BYTES = 16 * 2**10  # so few messages of this size are on their way that no sender ever waits
ARRAY_BYTES = 64 * 2**10  # smaller arrays are pickled with their object
ALIGNMENT = 64
MAX_FILES = 200  # per message; Linux passes at most 253
HEADER = struct.Struct("<II")  # bytes of the envelope, number of memory files
CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

Place = tuple[int, int, int]  # number of the memory file, offset, bytes
_own_memory: dict[tuple[int, int], int] = {}  # memory file of each (address, bytes) of `shared_array`


def shared_array(shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """An array of zeros that the next `send` of this process passes on without a copy."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    file = _memory_file(size)
    array: NDArray[Any] = np.frombuffer(mmap.mmap(file, size), dtype).reshape(shape)
    _own_memory[array.ctypes.data, size] = file
    return array


def send(channel: socket.socket, value: Any, pickler: type[pickle.Pickler] = pickle.Pickler) -> None:
    """Send an object. At most a few messages may be on their way, or the sender waits for the receiver.

    Raises:
        BrokenPipeError, ConnectionResetError: the other process has ended.
        OSError, MemoryError: no memory, or too many open files.
    """
    buffers: list[memoryview] = []

    def in_band(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < ARRAY_BYTES:
            return True
        buffers.append(raw)
        return False

    files: list[int] = []
    try:
        stream = io.BytesIO()
        pickler(stream, 5, buffer_callback=in_band).dump(value)
        content: bytes | list[Place] = stream.getvalue()
        if buffers or len(content) > INLINE_BYTES:
            content, files = _store([stream.getbuffer(), *buffers])
        envelope = pickle.dumps(content, 5)
        socket.send_fds(channel, [HEADER.pack(len(envelope), len(files))], files)
        channel.sendall(envelope)
    finally:
        for file in {*files, *_own_memory.values()}:
            os.close(file)
        _own_memory.clear()


def _store(parts: list[memoryview]) -> tuple[list[Place], list[int]]:
    """Put all parts into memory files: those of `shared_array` are there, the others share the first file."""
    places: list[Place] = []
    files: list[int] = [-1]
    copies: list[tuple[int, memoryview]] = []
    size = 0
    for part in parts:
        owned = _own_memory.get((np.frombuffer(part, np.uint8).ctypes.data, part.nbytes))
        if owned is not None and len(files) < MAX_FILES:
            places.append((len(files), 0, part.nbytes))
            files.append(owned)
        else:
            places.append((0, size, part.nbytes))
            copies.append((size, part))
            size += -(-part.nbytes // ALIGNMENT) * ALIGNMENT
    files[0] = _memory_file(size)
    for offset, part in copies:
        written = 0
        while written < part.nbytes:
            written += os.pwrite(files[0], part[written:], offset + written)
    return places, files


def receive(channel: socket.socket) -> Any:
    """Receive one object; its large arrays are the sender's memory, which can be written to.

    Raises:
        EOFError: the other process has ended.
        OSError, MemoryError: no memory, or too many open files.
    """
    files: list[int] = []
    try:
        header, files, *_ = socket.recv_fds(channel, HEADER.size, MAX_FILES + 1, CLOSE_ON_EXEC)
        header += _exactly(channel, HEADER.size - len(header))
        size, count = HEADER.unpack(header)
        content: bytes | list[Place] = pickle.loads(_exactly(channel, size))  # noqa: S301 - from our own process
        if len(files) < count:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        if isinstance(content, bytes):
            return pickle.loads(content)  # noqa: S301
        maps = [memoryview(mmap.mmap(file, 0)) for file in files]
        stream, *buffers = (maps[file][offset : offset + size] for file, offset, size in content)
        return pickle.loads(stream, buffers=buffers)  # noqa: S301
    except ConnectionResetError as error:
        raise EOFError from error
    finally:
        for file in files:
            os.close(file)


def _exactly(channel: socket.socket, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = channel.recv(size)
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _memory_file(size: int) -> int:
    """A descriptor of `size` bytes of anonymous memory, or of a file without a name."""
    file = -1
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):
            file = os.memfd_create("kmax")
    if file < 0:
        with tempfile.TemporaryFile() as stream:
            file = os.dup(stream.fileno())
    try:
        os.ftruncate(file, size)
        if hasattr(os, "posix_fallocate") and size:  # without it, a full disk would end the writer by SIGBUS
            os.posix_fallocate(file, 0, size)
    except OSError:
        os.close(file)
        raise
    return file
