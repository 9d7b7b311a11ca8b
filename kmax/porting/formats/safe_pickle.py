"""Pickles of tensors and arrays, read by a restricted subclass of pickle's Unpickler in Python.

It calls nothing that a pickle names.

`torch.load(weights_only=True)` is not used, since it accepts corrupt weights: it never compares the archive's
checksums, so that a flipped bit gives another number without an error (with and without `mmap`), it returns a
tensor of 10^12 elements on a storage of 4, reads files of the legacy format whole, and refuses files with
settings of the training program beside the weights. Here tensors are only described; `torch_format` reads
their bytes, one tensor at a time.

Before a pickle is unpickled, one pass of `pickletools`, which only parses, counts its opcodes: one byte of a
pickle can create an object of many bytes, and an index into the memo of four bytes an array of gigabytes.
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO, ClassVar

from kmax.porting.formats.pickled_values import (
    CALLS,
    SKIPPED,
    Array,
    Named,
    RefusedError,
    Skipped,
    check_keys,
)

# A checkpoint with the state of its optimiser needs about a third.
MAX_OPCODES = 600_000
# Tuples may be nested, and CPython crashes when it hashes a tuple of some 100,000 levels.
MAX_TUPLES = 70_000  # 4 per tensor
MAX_NAMES = 1000  # distinct classes and functions; a checkpoint has some ten
COPIES = 4  # bytes that calls may make for each byte of the file, beyond SPARE_BYTES
SPARE_BYTES = 16 * 2**20
BYTES_PER_ITEM = 100  # of a list or dict
NEVER_IN_CHECKPOINTS = {"PERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}
TUPLES = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
MEMO_INDEX = {"PUT", "BINPUT", "LONG_BINPUT"}


class Bounded:
    """A stream that reads at most `size` bytes, whatever length a corrupt file declares."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self.left = stream, size

    def read(self, count: int) -> bytes:
        """At most `count` bytes."""
        content = self._stream.read(max(0, min(count, self.left)))
        self.left -= len(content)
        return content

    def readline(self) -> bytes:
        """Up to the end of the line."""
        content = self._stream.readline(self.left)
        self.left -= len(content)
        return content


def load(stream: BinaryIO, size: int, persistent: Callable[[Any], Any]) -> Any:
    """The value of the pickle that starts at the stream's position.

    Args:
        stream: seekable; positioned after the pickle when this returns.
        size: bytes from there to the end of the stream.
        persistent: returns the value of a persistent id (torch's storages).

    Raises:
        RefusedError: the pickle contains something that is not data.
        ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, EOFError, UnpicklingError:
            the pickle is corrupt.
    """
    start, bounded = stream.tell(), Bounded(stream, size)
    _check_opcodes(bounded)
    stream.seek(start)
    return _Unpickler(Bounded(stream, size - bounded.left), persistent).load()


def _check_opcodes(stream: Bounded) -> None:
    tuples = 0
    # `genops` uses `read` and `readline` only.
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):  # type: ignore[arg-type]
        if count > MAX_OPCODES:
            raise RefusedError(f"more than {MAX_OPCODES} objects, which no checkpoint has")
        tuples += opcode.name in TUPLES
        if tuples > MAX_TUPLES:
            raise RefusedError(f"more than {MAX_TUPLES} tuples, which no checkpoint has")
        if opcode.name in NEVER_IN_CHECKPOINTS:
            raise RefusedError(f"the opcode {opcode.name}, which no checkpoint has")
        if opcode.name in MEMO_INDEX and not (isinstance(argument, int) and 0 <= argument <= MAX_OPCODES):
            raise RefusedError(f"a memo of {argument} entries, which no checkpoint has")


PythonUnpickler: Any = pickle._Unpickler  # unlike the one in C, it lets opcodes be replaced


class _Unpickler(PythonUnpickler):  # type: ignore[misc]
    """Every class or function that a pickle names is replaced by a stand-in.

    Keys are plain values or flat tuples: a few hundred bytes can nest tuples so that one hash takes days. The
    results of calls are counted, because by its memo a small file can request the same large copy many times.
    """

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(PythonUnpickler.dispatch)

    def __init__(self, stream: Bounded, persistent: Callable[[Any], Any]) -> None:
        super().__init__(stream)  # it uses `read` and `readline` only
        self._persistent = persistent
        self._names: dict[str, type] = {}
        self._left = SPARE_BYTES + COPIES * stream.left

    def find_class(self, module: str, name: str) -> type:
        full = f"{module}.{name}"
        if full in SKIPPED:
            return Skipped
        if full not in self._names:
            if len(self._names) >= MAX_NAMES:
                raise RefusedError(f"more than {MAX_NAMES} names of classes, which no checkpoint has")
            self._names[full] = self._stand_in(full)
        return self._names[full]

    def persistent_load(self, identity: Any) -> Any:
        return self._persistent(identity)

    def _stand_in(self, full_name: str) -> type:
        """A class whose call returns the value if the call is known as data, and is refused otherwise."""

        def new(cls: type, *arguments: Any) -> Any:
            known = CALLS.get(full_name)
            if known is None:
                raise RefusedError(
                    f"refers to {full_name[:80]!r}, which is not a data type; it was not called; "
                    "save the model's state_dict() alone"
                )
            value = known(*arguments)
            self._count(value)
            return value

        return Named("StandIn", (), {"__new__": new, "__slots__": (), "full_name": full_name})

    def _count(self, value: Any) -> None:
        """Subtract the size of a value from what the file may still make."""
        if isinstance(value, bytes):
            self._left -= len(value)
        elif isinstance(value, Array):
            self._left -= 0 if value.value is None else value.value.nbytes
        elif isinstance(value, list | dict):
            self._left -= BYTES_PER_ITEM * len(value)
        if self._left < 0:
            raise RefusedError("copies far larger than the file, which no checkpoint has")

    def load_build(self) -> None:
        super().load_build()
        self._count(self.stack[-1] if isinstance(self.stack[-1], Array) else None)

    def load_setitem(self) -> None:
        check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        check_keys(self.stack[::2])  # the items since the mark
        super().load_setitems()

    def load_dict(self) -> None:
        check_keys(self.stack[::2])
        super().load_dict()

    def load_additems(self) -> None:
        check_keys(self.stack)
        super().load_additems()

    def load_frozenset(self) -> None:
        check_keys(self.stack)
        super().load_frozenset()

    for _opcode, _load in (
        (pickle.BUILD, load_build),
        (pickle.SETITEM, load_setitem),
        (pickle.SETITEMS, load_setitems),
        (pickle.DICT, load_dict),
        (pickle.ADDITEMS, load_additems),
        (pickle.FROZENSET, load_frozenset),
    ):
        dispatch[_opcode[0]] = _load
