"""What a pickle may ask for: tensors, arrays, containers. Everything else is refused, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Storage classes and dtypes of torch, as numpy types; bfloat16 is widened when it is read.
BFLOAT16 = "bfloat16"
STORAGES = {"Float": "f4", "Double": "f8", "Half": "f2", "BFloat16": BFLOAT16, "Long": "i8", "Int": "i4"}
STORAGES |= {"Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "?"}
ARRAY_TYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}
# Settings that training programs keep beside the weights: read over, never built.
INERT = {"argparse.Namespace", "yacs.config.CfgNode", "fvcore.common.config.CfgNode", "pathlib.PosixPath"}
INERT |= {"detectron2.config.config.CfgNode", "torch.device", "torch.Size"}


class RefusedError(ValueError):
    """The file asks for something that is not data."""


@dataclass(frozen=True, slots=True)
class Global:
    """A name of a module's attribute."""

    name: str


@dataclass(frozen=True, slots=True)
class Inert:
    """A call that is not made."""

    name: str


@dataclass(frozen=True, slots=True)
class Storage:
    """Numbers in a row somewhere in the file: type (numpy's, or "bfloat16"), key, count."""

    dtype: str
    key: str
    count: int

    @property
    def itemsize(self) -> int:
        """Bytes per number."""
        return 2 if self.dtype == BFLOAT16 else np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor on a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(slots=True)
class Array:
    """A numpy array that waits for its state."""

    value: NDArray[Any] | None = None


@dataclass(slots=True)
class Type:
    """A numpy type; its byte order comes with its state."""

    text: str
    order: str = "<"


def call(function: Global, arguments: tuple[Any, ...]) -> Any:
    """The value of a call, where it is data.

    Raises:
        RefusedError: it is not.
        ValueError, IndexError, TypeError, AttributeError: wrong arguments.
    """
    if function.name in INERT:
        return Inert(function.name)
    known = CALLS.get(function.name)
    if known is None:
        raise RefusedError(f"asks for {function.name[:80]!r}, which is not data; nothing of it was run")
    return known(*arguments)


def build(target: Any, state: Any) -> Any:
    """Give an object its state; dicts and settings keep none."""
    if isinstance(target, Array):
        _, shape, dtype, fortran, content = state
        target.value = _array(content, dtype, shape, "F" if fortran else "C")
    elif isinstance(target, Type):
        target.order = state[1]
    elif not isinstance(target, Inert | dict):
        raise RefusedError("state for something that has none")
    return target


def storage(identity: Any) -> Storage:
    """A storage from torch's persistent id: ("storage", class, key, device, count, ...)."""
    what, kind, key, _, count = identity[:5]
    if what != "storage" or not isinstance(kind, Global) or not isinstance(key, str):
        raise ValueError("a persistent id that is no storage")
    name = kind.name.rsplit(".", 1)[-1].removesuffix("Storage")
    dtype = "u1" if name == "Untyped" else STORAGES.get(name)
    if dtype is None or not kind.name.startswith("torch."):
        raise RefusedError(f"a storage of class {kind.name[:80]!r}")
    return Storage(dtype, key, _count(count))


def _tensor(store: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> StoredTensor:
    if not isinstance(store, Storage):
        raise TypeError("a tensor without storage")
    sides, steps = _counts(shape), _counts(strides)
    tensor = StoredTensor(store, _count(offset), sides, steps)
    if len(sides) != len(steps):
        raise ValueError("strides that do not fit their shape")
    if math.prod(sides) > store.count:
        raise ValueError("a tensor with more elements than its storage")
    last = tensor.offset + sum((side - 1) * step for side, step in zip(sides, steps, strict=True))
    if 0 not in sides and last >= store.count:
        raise ValueError("a tensor that passes the end of its storage")
    return tensor


def _typed_tensor(store: Any, *rest: Any) -> StoredTensor:
    """As `_tensor`, on untyped bytes: the type is the seventh argument."""
    dtype = rest[5]
    types = {"float32": "f4", "float64": "f8", "float16": "f2", "bfloat16": BFLOAT16, "int64": "i8"}
    types |= {"int32": "i4", "int16": "i2", "int8": "i1", "uint8": "u1", "bool": "?", "uint16": "u2"}
    if not isinstance(store, Storage) or not isinstance(dtype, Global):
        raise TypeError("a tensor without storage or type")
    name = types.get(dtype.name.removeprefix("torch."))
    if name is None:
        raise RefusedError(f"a tensor of type {dtype.name[:80]!r}")
    typed = Storage(name, store.key, 0)
    return _tensor(Storage(name, store.key, store.count // typed.itemsize), *rest)


def _parameter(data: Any, *_: Any) -> StoredTensor:
    if not isinstance(data, StoredTensor):
        raise TypeError("a parameter without tensor")
    return data


def _type(text: Any, *_: Any) -> Type:
    if not isinstance(text, str) or text not in ARRAY_TYPES:
        raise RefusedError(
            f"an array of type {str(text)[:40]!r}" if isinstance(text, str) else "an array type"
        )
    return Type(text)


def _numpy(dtype: Any) -> np.dtype[Any]:
    if not isinstance(dtype, Type) or dtype.order not in ("<", ">", "|", "="):
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
    return _array(content, dtype, (), "C").item()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """How protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in an unknown encoding")
    return text.encode("latin-1")


def _ordered(items: Any = ()) -> dict[Any, Any]:
    if not isinstance(items, list | tuple):
        raise TypeError("a dict of something that is no list")
    return {key: value for key, value in items}  # noqa: C416 - pairs that may be lists


def _sequence(items: Any = ()) -> list[Any]:
    if not isinstance(items, list | tuple):
        raise TypeError("a set of something that is no list")
    return list(items)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError("a count that is none")
    return value


def _counts(values: Any) -> tuple[int, ...]:
    if not isinstance(values, Sequence) or len(values) > 64:
        raise ValueError("a shape that is none")
    return tuple(_count(value) for value in values)


CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": lambda *_: {},
    "builtins.set": _sequence,
    "__builtin__.set": _sequence,
    "_codecs.encode": _encode,
    "numpy.dtype": _type,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}
for _core in ("numpy.core", "numpy._core"):
    CALLS[f"{_core}.multiarray._reconstruct"] = lambda *_: Array()
    CALLS[f"{_core}.multiarray.scalar"] = _scalar
    CALLS[f"{_core}.numeric._frombuffer"] = _frombuffer
