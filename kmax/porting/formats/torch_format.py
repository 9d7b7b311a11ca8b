"""Checkpoints of torch: torch.save files (legacy, zip), and plain pickles of arrays (detectron2 .pkl)."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from kmax.errors import InputError
from kmax.file_kinds import PICKLE, TEXT, TORCH, instead_of
from kmax.porting.formats.pickled_values import (
    BFLOAT16,
    Array,
    OddTensor,
    RefusedError,
    Storage,
    StoredTensor,
    storage,
)
from kmax.porting.formats.safe_pickle import load
from kmax.porting.formats.source_checkpoint import Checkpoint
from kmax.porting.formats.state_dict_search import StateDict, find_state_dict, listed

MAGIC = 0x1950A86A20F9469CFC6C
DAMAGE: tuple[type[Exception], ...] = (
    ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, EOFError, OSError,
    MemoryError, NotImplementedError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile,
    pickle.UnpicklingError,
)  # fmt: skip
# Messages of pickletools about a pickle without an end.
TRUNCATED = ("not enough data in stream", "pickle exhausted before", "no newline found when")
MESSAGES = (ValueError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error, pickle.UnpicklingError)
# 20000 tensors; `zipfile` takes up to 16 times the size of the directory.
MAX_DIRECTORY_BYTES = 2 * 2**20
ZIP_START = b"PK\x03\x04"
ZIP_END, END_SIZE, LOCATOR_SIZE = b"PK\x05\x06", 22, 20
ReadStorage = Callable[[Storage], bytes]


def open_file(path: Path, state_dict: str | None = None) -> Checkpoint:
    """Read the names of the tensors of a `.pth`, `.pt`, `.bin` or `.pkl` file.

    Args:
        path: of the file.
        state_dict: name of one of several state dicts; None: see `state_dict_search`.

    Raises:
        InputError: not found, corrupt, without a state dict, or it contains something that is not data.
    """
    try:
        if zipfile.is_zipfile(path):
            value, read_storage = _read_zip(path)
        elif _starts_like_zip(path):
            raise RefusedError("truncated zip file: its end is missing")
        else:
            value, read_storage = _read_stream(path)
        found = find_state_dict(value, state_dict)
    except RefusedError as error:
        fault = instead_of(path, PICKLE, TORCH, TEXT) or str(error)  # old pickles look like texts
        raise InputError(f"{path}: not a readable torch checkpoint: {fault}") from error
    except DAMAGE as error:
        fault = instead_of(path, PICKLE, TORCH) or f"corrupt: {_words(error)}"
        raise InputError(f"{path}: not a readable torch checkpoint: {fault}") from error
    return PickledTensors(path, found, read_storage)


class PickledTensors(Checkpoint):
    """The tensors of a checkpoint by name, read one at a time; bfloat16 is widened to float32."""

    def __init__(self, path: Path, found: StateDict, read_storage: ReadStorage) -> None:
        self.path, self._values, self._read_storage = path, found.values, read_storage
        self.ignored = found.ignored
        if found.others:
            others = listed(f"'{name}' ({count} tensors)" for name, count in found.others.items())
            what = f"the state dict '{found.name}' is read; the file also has {others}"
            self.notes = (f"{path}: {what}; --state-dict NAME reads another",)
        self._last: tuple[Storage, bytes] | None = None

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def describe(self, name: str) -> tuple[tuple[int, ...], str]:
        """Shape and type of a tensor, without reading it."""
        value = self._values[name]
        if isinstance(value, OddTensor):
            return value.shape, value.kind
        if isinstance(value, Array):
            array = _whole(value)
            return array.shape, array.dtype.name
        kind = value.storage.dtype
        return value.shape, kind if kind == BFLOAT16 else np.dtype(kind).name

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Read one tensor.

        Raises:
            KeyError: no such tensor.
            InputError: its bytes are missing or corrupt.
        """
        value = self._values[name]
        if isinstance(value, Array):
            return _whole(value)
        if isinstance(value, OddTensor):
            raise InputError(f"{self.path}: tensor '{name}': {value.kind}, so that its values are not read")
        try:
            return _strided(value, self._content(value.storage))
        except DAMAGE as error:
            raise InputError(f"{self.path}: tensor '{name}': corrupt: {_words(error)}") from error

    def _content(self, store: Storage) -> bytes:
        """The storage's bytes; the last one is kept for tensors that share it. Thread-safe."""
        last = self._last
        if last is None or last[0] != store:
            last = self._last = None
            last = self._last = (store, self._read_storage(store))
        return last[1]


def _read_zip(path: Path) -> tuple[Any, ReadStorage]:
    _check_directory(path)
    if (fault := instead_of(path, TORCH)) is not None:
        raise RefusedError(fault)
    archive = zipfile.ZipFile(path)  # open as long as this object: the directory is read once
    _check_entries(archive, path.stat().st_size)
    pickles = [name for name in archive.namelist() if name.split("/")[1:] == ["data.pkl"]]
    if len(pickles) != 1:
        raise RefusedError("a zip file without data.pkl")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
        raise RefusedError("written on a big-endian machine")
    with archive.open(pickles[0]) as entry:
        buffered = io.BufferedReader(cast(Any, entry))
        value = load(buffered, archive.getinfo(pickles[0]).file_size, storage)

    def read_storage(store: Storage) -> bytes:
        content = archive.read(f"{folder}data/{store.key}")
        if len(content) < store.length * store.itemsize:
            raise ValueError("its storage is shorter than declared")
        return content

    return value, read_storage


def _read_stream(path: Path) -> tuple[Any, ReadStorage]:
    """A plain pickle, or torch's legacy format: five pickles, then the storages in order of their keys."""
    size = path.stat().st_size
    with open(path, "rb") as stream:

        def load_next(persistent: Callable[[Any], Any] = storage) -> Any:
            return load(stream, size - stream.tell(), persistent)

        value = load_next()
        if not (type(value) is int and value == MAGIC):
            return value, _no_storage
        stores: dict[str, Storage] = {}

        def remember(identity: Any) -> Storage:
            found = storage(identity)
            return stores.setdefault(found.key, found)

        if load_next() != 1001:
            raise RefusedError("an unsupported version of torch's legacy format")
        load_next()
        value = load_next(remember)
        keys = load_next()
        if not isinstance(keys, list) or set(keys) != set(stores):
            raise ValueError("the stored storages do not match the tensors")
        places, at = {}, stream.tell()
        for key in keys:
            places[key] = at + 8
            if at + 8 > size:
                raise EOFError
            stream.seek(at)
            if int.from_bytes(stream.read(8), "little") != stores[key].length:
                raise ValueError("a storage of a different length than declared")
            at += 8 + stores[key].length * stores[key].itemsize
        if at > size:
            raise EOFError

    def read_storage(store: Storage) -> bytes:
        with open(path, "rb") as stream:
            stream.seek(places[store.key])
            return stream.read(store.length * store.itemsize)

    return value, read_storage


def _no_storage(store: Storage) -> bytes:
    raise ValueError("a tensor without storage")


def _starts_like_zip(path: Path) -> bool:
    """Whether the file begins like a zip archive with entries."""
    with open(path, "rb") as stream:
        return stream.read(len(ZIP_START)) == ZIP_START


def _check_directory(path: Path) -> None:
    """Refuse a zip file whose directory is larger than any checkpoint's.

    Raises:
        RefusedError: it is.
    """
    with open(path, "rb") as stream:
        size = stream.seek(0, 2)
        tail_size = min(size, END_SIZE + LOCATOR_SIZE + 0xFFFF)
        stream.seek(size - tail_size)
        tail = stream.read(tail_size)
        at = tail.rfind(ZIP_END)
        directory = int.from_bytes(tail[at + 12 : at + 16], "little")
        if at >= LOCATOR_SIZE and tail[at - LOCATOR_SIZE : at - LOCATOR_SIZE + 4] == b"PK\x06\x07":
            offset = int.from_bytes(tail[at - 12 : at - 4], "little")  # of the record with 64-bit sizes
            if offset < size:
                stream.seek(offset + 40)
                directory = max(
                    directory if directory != 0xFFFFFFFF else 0, int.from_bytes(stream.read(8), "little")
                )
    if at >= 0 and directory > MAX_DIRECTORY_BYTES:
        raise RefusedError("a directory with more entries than any checkpoint has")


def _check_entries(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse entries that are compressed or larger than the file: torch writes none, and they unpack to more.

    Raises:
        RefusedError: there is such an entry.
    """
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or (
        sum(entry.file_size for entry in entries) > size
    ):
        raise RefusedError("a compressed archive")


def _whole(array: Array) -> NDArray[Any]:
    assert array.value is not None  # a state dict has no others
    return array.value


def _strided(tensor: StoredTensor, content: bytes) -> NDArray[Any]:
    """The tensor's elements; `safe_pickle` has checked that they are within the storage."""
    store = tensor.storage
    if len(content) < store.length * store.itemsize:
        raise ValueError("its storage is truncated")
    row = np.frombuffer(content, dtype="<u2" if store.dtype == BFLOAT16 else store.dtype, count=store.length)
    if 0 in tensor.shape:
        array = np.zeros(tensor.shape, dtype=row.dtype)
    else:
        steps = tuple(step * row.itemsize for step in tensor.strides)
        array = np.lib.stride_tricks.as_strided(row[tensor.offset :], tensor.shape, steps, writeable=False)
    if store.dtype == BFLOAT16:
        return (array.astype("<u4") << 16).view("<f4").reshape(tensor.shape)
    return array


def _words(error: BaseException) -> str:
    """The error's message on one line; of a missing key or index its class."""
    if isinstance(error, EOFError) or str(error).startswith(TRUNCATED):
        return "it is truncated"
    has_message = isinstance(error, MESSAGES)
    return (" ".join(str(error).split())[:120] if has_message else "") or type(error).__name__
