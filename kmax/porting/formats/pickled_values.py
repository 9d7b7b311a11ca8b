"""The values of pickled checkpoints: tensors on storages, arrays, containers and skipped settings.

A pickle makes them by calls; `CALLS` lists every call that is known as data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Storage classes and dtypes of torch, as numpy types; bfloat16 is widened when it is read.
BFLOAT16 = "bfloat16"
STORAGES = {"Float": "f4", "Double": "f8", "Half": "f2", "BFloat16": BFLOAT16, "Long": "i8", "Int": "i4"}
STORAGES |= {"Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "?"}
# No model needs these; they are described, so that the message names the tensor.
STORAGES |= {"ComplexFloat": "c8", "ComplexDouble": "c16", "QInt8": "i1", "QUInt8": "u1", "QInt32": "i4"}
ARRAY_TYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}
# Settings that training programs store with the weights: skipped, never instantiated.
SKIPPED = {"argparse.Namespace", "yacs.config.CfgNode", "fvcore.common.config.CfgNode", "pathlib.PosixPath"}
SKIPPED |= {"detectron2.config.config.CfgNode", "torch.device", "torch.Size", "_io.BytesIO"}
SKIPPED |= {
    "pathlib.WindowsPath",
    "pathlib._local.PosixPath",
    "pathlib._local.WindowsPath",
    "datetime.datetime",
}
SKIPPED |= {"types.SimpleNamespace", "easydict.EasyDict", "mmengine.config.config.ConfigDict"}
SKIPPED |= {"torch.torch_version.TorchVersion"}


class RefusedError(ValueError):
    """The file contains something that is not data."""


class Named(type):
    """Class of the stand-ins: they have a name, and take no state.

    Attributes:
        full_name: module and name of what the pickle names.
    """

    full_name: str

    def __setstate__(cls, state: Any) -> None:
        raise RefusedError(f"state for {cls.full_name[:80]!r}")


class Skipped(dict[Any, Any]):
    """Settings of a training program: their contents are dropped."""

    __slots__ = ()

    def __new__(cls, *_: Any, **__: Any) -> Skipped:  # noqa: D102
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)  # paths are keys of dicts

    def __setstate__(self, state: Any) -> None:
        pass


PLAIN_KEYS = (str, int, float, bytes, type(None), Skipped)


def check_keys(keys: Iterable[Any]) -> None:
    """Refuse keys other than plain values, skipped settings, and tuples of plain values."""
    for key in keys:
        parts = key if type(key) is tuple else (key,)
        if not all(isinstance(part, PLAIN_KEYS) for part in parts):
            raise RefusedError("a key that is not a number or a text")


class Plain(dict[Any, Any]):
    """An OrderedDict or defaultdict; its attributes, such as a state dict's `_metadata`, are dropped."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class Storage(NamedTuple):
    """Consecutive numbers somewhere in the file: type (numpy's, or "bfloat16"), key, count."""

    dtype: str
    key: str
    length: int

    @property
    def itemsize(self) -> int:
        """Bytes per number."""
        return 2 if self.dtype == BFLOAT16 else np.dtype(self.dtype).itemsize


class StoredTensor(NamedTuple):
    """A tensor on a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class OddTensor(NamedTuple):
    """A tensor whose values are not read, since no model needs tensors of its kind ("quantised", "meta")."""

    kind: str
    shape: tuple[int, ...]


class Array:
    """A numpy array; its content comes with its state."""

    __slots__ = ("value",)

    def __init__(self, value: NDArray[Any] | None = None) -> None:
        self.value = value

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        self.value = _array(content, dtype, shape, "F" if fortran else "C")


class ArrayType:
    """A numpy type; its byte order comes with its state."""

    __slots__ = ("order", "text")

    def __init__(self, text: str) -> None:
        self.text, self.order = text, "<"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


def storage(identity: Any) -> Storage:
    """A storage from torch's persistent id: ("storage", class, key, device, count, ...).

    Raises:
        RefusedError: of a class that is not one of torch's storages.
        ValueError: not a storage.
    """
    what, kind, key, _, count = identity[:5]
    if what != "storage" or not isinstance(kind, Named) or not isinstance(key, str):
        raise ValueError("a persistent id that is not a storage")
    name = kind.full_name.rsplit(".", 1)[-1].removesuffix("Storage")
    dtype = "u1" if name == "Untyped" else STORAGES.get(name)
    if dtype is None or not kind.full_name.startswith("torch."):
        raise RefusedError(f"a storage of class {kind.full_name[:80]!r}")
    return Storage(dtype, key, _count(count))


def _tensor(store: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> StoredTensor:
    if not isinstance(store, Storage):
        raise TypeError("a tensor without storage")
    sides, steps = _counts(shape), _counts(strides)
    tensor = StoredTensor(store, _count(offset), sides, steps)
    if len(sides) != len(steps):
        raise ValueError("strides that do not fit their shape")
    if math.prod(sides) > store.length:
        raise ValueError("a tensor with more elements than its storage")
    last = tensor.offset + sum((side - 1) * step for side, step in zip(sides, steps, strict=True))
    if 0 not in sides and last >= store.length:
        raise ValueError("a tensor that extends beyond its storage")
    return tensor


def _typed_tensor(store: Any, *rest: Any) -> StoredTensor | OddTensor:
    """Like `_tensor`, on untyped bytes: the type is the seventh argument."""
    dtype = rest[5]
    types = {"float32": "f4", "float64": "f8", "float16": "f2", "bfloat16": BFLOAT16, "int64": "i8"}
    types |= {"int32": "i4", "int16": "i2", "int8": "i1", "uint8": "u1", "bool": "?", "uint16": "u2"}
    types |= {"uint32": "u4", "uint64": "u8", "complex64": "c8", "complex128": "c16"}
    if not isinstance(store, Storage) or not isinstance(dtype, Named):
        raise TypeError("a tensor without storage or type")
    kind = dtype.full_name.removeprefix("torch.")
    name = types.get(kind)
    if name is None:
        return OddTensor(kind[:40], _counts(rest[1]))
    typed = Storage(name, store.key, 0)
    return _tensor(Storage(name, store.key, store.length // typed.itemsize), *rest)


def _parameter(data: Any, *_: Any) -> StoredTensor | OddTensor:
    if not isinstance(data, StoredTensor | OddTensor):
        raise TypeError("a parameter without tensor")
    return data


def _quantised_tensor(store: Any, offset: Any, shape: Any, *_: Any) -> OddTensor:
    return OddTensor("quantised", _counts(shape))


def _meta_tensor(dtype: Any, shape: Any, *_: Any) -> OddTensor:
    return OddTensor("meta", _counts(shape))


def _sparse_tensor(*_: Any) -> OddTensor:
    return OddTensor("sparse", ())


def _of_subclass(make: Any, kind: Any, arguments: Any, state: Any = None) -> StoredTensor | OddTensor:
    """A tensor of a subclass, as a plain one; only functions that make tensors are accepted."""
    if not isinstance(make, Named) or make.full_name not in TENSORS or not isinstance(arguments, tuple):
        raise RefusedError("a tensor that is made by an unknown function; it was not called")
    tensor: StoredTensor | OddTensor = TENSORS[make.full_name](*arguments)
    return tensor


def _type(text: Any, *_: Any) -> ArrayType:
    if not isinstance(text, str) or text not in ARRAY_TYPES:
        raise RefusedError(
            f"an array of type {str(text)[:40]!r}" if isinstance(text, str) else "an array type"
        )
    return ArrayType(text)


def _numpy(dtype: Any) -> np.dtype[Any]:
    if not isinstance(dtype, ArrayType) or dtype.order not in ("<", ">", "|", "="):
        raise ValueError("an array without type")
    return np.dtype(dtype.text).newbyteorder(">" if dtype.order == ">" else "<")


def _array(content: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    if isinstance(content, str):  # written by Python 2
        content = content.encode("latin-1")
    sides, kind = _counts(shape), _numpy(dtype)
    if not isinstance(content, bytes | bytearray) or len(content) != math.prod(sides) * kind.itemsize:
        raise ValueError("an array whose bytes do not fit its shape")
    return np.frombuffer(content, dtype=kind).reshape(sides, order="F" if order == "F" else "C")


def _frombuffer(content: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> Array:
    return Array(_array(content, dtype, shape, order))


def _scalar(dtype: Any, content: Any) -> Any:
    """A numpy scalar as a number of Python."""
    return _array(content, dtype, (), "C").item()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """The way in which protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in an unknown encoding")
    return text.encode("latin-1")


def _ordered(items: Any = ()) -> Plain:
    if not isinstance(items, list | tuple):
        raise TypeError("a dict built from something that is not a list")
    pairs = [(key, value) for key, value in items]
    check_keys(key for key, _ in pairs)
    return Plain(pairs)


def _sequence(items: Any = ()) -> list[Any]:
    if not isinstance(items, list | tuple):
        raise TypeError("a set built from something that is not a list")
    return list(items)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError("an invalid count")
    return value


def _counts(values: Any) -> tuple[int, ...]:
    if not isinstance(values, Sequence) or len(values) > 64:
        raise ValueError("an invalid shape")
    return tuple(_count(value) for value in values)


TENSORS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_qtensor": _quantised_tensor,
    "torch._utils._rebuild_meta_tensor_no_storage": _meta_tensor,
    "torch._utils._rebuild_sparse_tensor": _sparse_tensor,
}
CALLS: dict[str, Callable[..., Any]] = {
    **TENSORS,
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": lambda *_: Plain(),
    "collections.Counter": lambda *_: Plain(),  # of schedules of the learning rate
    "builtins.set": _sequence,
    "__builtin__.set": _sequence,
    "_codecs.encode": _encode,
    "numpy.dtype": _type,
    "torch._tensor._rebuild_from_type_v2": _of_subclass,
    "torch.serialization._get_layout": lambda *_: None,  # of sparse tensors
}
for _core in ("numpy.core", "numpy._core"):
    CALLS[f"{_core}.multiarray._reconstruct"] = lambda *_: Array()
    CALLS[f"{_core}.multiarray.scalar"] = _scalar
    CALLS[f"{_core}.numeric._frombuffer"] = _frombuffer
