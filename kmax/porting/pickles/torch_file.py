"""Torch's checkpoint files, old and new, and plain pickles of arrays (detectron2's model zoo)."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.errors import InputError
from kmax.porting.pickles.archive import check_directory, check_entries, starts_like_zip
from kmax.porting.pickles.machine import Bounded, load
from kmax.porting.pickles.values import BFLOAT16, Array, RefusedError, Storage, StoredTensor, storage

PICKLE = b"\x80"  # of protocol 2 and later; torch has written no earlier one
MAGIC = 0x1950A86A20F9469CFC6C
DAMAGE: tuple[type[Exception], ...] = (
    ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, EOFError, OSError,
    MemoryError, NotImplementedError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
# Wrappers that training programs put around a state dict.
WRAPPERS = ("state_dict", "model", "model_state_dict", "module")
MAX_DEPTH = 4
ReadStorage = Callable[[Storage], bytes]
Value = Array | StoredTensor


class PickledTensors(Mapping[str, NDArray[Any]]):
    """The tensors of a checkpoint by name, read one at a time; bfloat16 is widened to float32."""

    def __init__(self, path: Path, values: dict[str, Value], read_storage: ReadStorage) -> None:
        self.path, self._values, self._read_storage = path, values, read_storage
        self._last: tuple[Storage, bytes] | None = None

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def describe(self, name: str) -> tuple[tuple[int, ...], str]:
        """Shape and type of a tensor, without reading it."""
        value = self._values[name]
        if isinstance(value, Array):
            array = _whole(value)
            return array.shape, array.dtype.name
        kind = value.storage.dtype
        return value.shape, kind if kind == BFLOAT16 else np.dtype(kind).name

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Read one tensor.

        Raises:
            KeyError: no such tensor.
            InputError: its bytes are missing or damaged.
        """
        value = self._values[name]
        if isinstance(value, Array):
            return _whole(value)
        try:
            return _strided(value, self._content(value.storage))
        except DAMAGE as error:
            raise InputError(f"{self.path}: tensor '{name}': damaged: {_words(error)}") from error

    def _content(self, store: Storage) -> bytes:
        """The storage's bytes; the last one is kept, for tensors that share it. Several threads may ask."""
        last = self._last
        if last is None or last[0] != store:
            last = self._last = None
            last = self._last = (store, self._read_storage(store))
        return last[1]


def read_pickled(path: Path) -> PickledTensors:
    """Read the names of the tensors of a `.pth`, `.pt`, `.bin` or `.pkl` file.

    Raises:
        InputError: not found, damaged, without a state dict, or it asks for anything but data.
    """
    try:
        if zipfile.is_zipfile(path):
            value, read_storage = _read_zip(path)
        elif starts_like_zip(path):
            raise RefusedError("cut off: its beginning is a zip file's, but its end is missing")
        else:
            value, read_storage = _read_stream(path)
        values = _state_dict(value)
    except RefusedError as error:
        raise InputError(f"{path}: not a readable torch checkpoint: {error}") from error
    except DAMAGE as error:
        fault = _foreign(path) or f"damaged: {_words(error)}"
        raise InputError(f"{path}: not a readable torch checkpoint: {fault}") from error
    if not values:
        raise InputError(f"{path}: holds no tensors")
    return PickledTensors(path, values, read_storage)


def _foreign(path: Path) -> str | None:
    """What a file begins with that is not even damaged: a web page, the pointer to a large file, nothing."""
    try:
        with open(path, "rb") as stream:
            start = stream.read(24)
    except OSError:
        return None
    if start.startswith((PICKLE, b"P")):
        return None
    if not start:
        return "the file is empty"
    return f"neither an archive of torch.save nor a pickle: it begins with {start!r}"


def _read_zip(path: Path) -> tuple[Any, ReadStorage]:
    check_directory(path)
    archive = zipfile.ZipFile(path)  # open as long as its tensors are wanted: the directory is read once
    check_entries(archive, path.stat().st_size)
    pickles = [name for name in archive.namelist() if name.split("/")[1:] == ["data.pkl"]]
    if len(pickles) != 1:
        raise RefusedError("a zip file without data.pkl")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
        raise RefusedError("written on a big-endian machine")
    with archive.open(pickles[0]) as stream:
        value = load(Bounded(stream, archive.getinfo(pickles[0]).file_size), storage)  # type: ignore[arg-type]

    def read_storage(store: Storage) -> bytes:
        content = archive.read(f"{folder}data/{store.key}")
        if len(content) < store.count * store.itemsize:
            raise ValueError("its storage is shorter than stated")
        return content

    return value, read_storage


def _read_stream(path: Path) -> tuple[Any, ReadStorage]:
    """A plain pickle, or torch's old format: five pickles, then the storages in the order of their keys."""
    with open(path, "rb") as stream:
        size = path.stat().st_size
        bounded = Bounded(stream, size)
        value = load(bounded, storage)
        if not (type(value) is int and value == MAGIC):
            return value, _no_storage
        stores: dict[str, Storage] = {}

        def remember(identity: Any) -> Storage:
            return stores.setdefault(identity[2], storage(identity))

        if load(bounded, storage) != 1001:
            raise RefusedError("torch's old format, of another version")
        load(bounded, storage)
        value = load(bounded, remember)
        keys = load(bounded, storage)
        if not isinstance(keys, list) or set(keys) != set(stores):
            raise ValueError("storages that are not those of the tensors")
        places, at = {}, size - bounded.left
        for key in keys:
            places[key] = at + 8
            stream.seek(at)
            if int.from_bytes(stream.read(8), "little") != stores[key].count:
                raise ValueError("a storage of another length than stated")
            at += 8 + stores[key].count * stores[key].itemsize
        if at > size:
            raise ValueError("cut off")

    def read_storage(store: Storage) -> bytes:
        with open(path, "rb") as stream:
            stream.seek(places[store.key])
            return stream.read(store.count * store.itemsize)

    return value, read_storage


def _no_storage(store: Storage) -> bytes:
    raise ValueError("a tensor without storage")


def _state_dict(content: Any, depth: int = 0) -> dict[str, Value]:
    """Unwrap {"state_dict": ...} and the like down to a mapping of names to tensors."""
    if isinstance(content, dict) and content and depth < MAX_DEPTH:
        wrapper = next((name for name in WRAPPERS if isinstance(content.get(name), dict)), None)
        if wrapper is not None:
            return _state_dict(content[wrapper], depth + 1)
        if all(_is_name(name) and _is_tensor(value) for name, value in content.items()):
            return _without_common_prefix(content)
    raise RefusedError("no state dict inside: a mapping of names to tensors is wanted")


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and name.isprintable()


def _is_tensor(value: Any) -> bool:
    return isinstance(value, StoredTensor) or (isinstance(value, Array) and value.value is not None)


def _without_common_prefix(values: dict[str, Value]) -> dict[str, Value]:
    """DistributedDataParallel puts `module.` before every name, torch.compile `_orig_mod.`."""
    for prefix in ("module.", "_orig_mod."):
        if all(name.startswith(prefix) for name in values):
            values = {name.removeprefix(prefix): value for name, value in values.items()}
    return values


def _whole(array: Array) -> NDArray[Any]:
    assert array.value is not None  # a state dict has no others
    return array.value


def _strided(tensor: StoredTensor, content: bytes) -> NDArray[Any]:
    """The tensor's elements, which lie within the storage: `values._tensor` has checked it."""
    store = tensor.storage
    if len(content) < store.count * store.itemsize:
        raise ValueError("its storage is cut off")
    row = np.frombuffer(content, dtype="<u2" if store.dtype == BFLOAT16 else store.dtype, count=store.count)
    if 0 in tensor.shape:
        array = np.zeros(tensor.shape, dtype=row.dtype)
    else:
        steps = tuple(step * row.itemsize for step in tensor.strides)
        array = np.lib.stride_tricks.as_strided(row[tensor.offset :], tensor.shape, steps, writeable=False)
    if store.dtype == BFLOAT16:
        return (array.astype("<u4") << 16).view("<f4").reshape(tensor.shape)
    return array


def _words(error: BaseException) -> str:
    """The error's own words, on one line; of a missing key or place its kind."""
    speaks = isinstance(error, (ValueError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error))
    return (" ".join(str(error).split())[:120] if speaks else "") or type(error).__name__
