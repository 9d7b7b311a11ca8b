"""The pickle language, interpreted without calling what it names.

Opcodes come from `pickletools`, which only reads. Containers become lists, tuples and dicts; a call becomes
a value only where `kmax.porting.pickles.values` knows it as data, and is refused otherwise. Objects are
counted, for one byte of a pickle can make a container of many.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO

from kmax.porting.pickles.values import Global, RefusedError, build, call

# A checkpoint with the state of its optimiser needs about a third.
MAX_OPCODES = 600_000
LITERALS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": list}
EMPTY["EMPTY_TUPLE"] = tuple
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Bounded:
    """A stream that reads at most what is left of `size` bytes, whatever length a damaged file asks for."""

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


def load(stream: Bounded, persistent: Callable[[Any], Any]) -> Any:
    """The value of the pickle that starts where `stream` stands.

    Args:
        stream: left behind the pickle's end.
        persistent: makes a value of a persistent id (torch's storages).

    Raises:
        RefusedError: the pickle asks for something that is not data.
        ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError: damaged.
    """
    machine = _Machine(persistent)
    # It wants `read` and `readline` alone.
    opcodes = pickletools.genops(stream)  # type: ignore[arg-type]
    for count, (opcode, argument, _) in enumerate(opcodes):
        if count > MAX_OPCODES:
            raise RefusedError(f"more than {MAX_OPCODES} objects, which no checkpoint has")
        machine.step(opcode.name, argument)
    return machine.result()


class _Machine:
    """Stack, marks and memo of one pickle."""

    def __init__(self, persistent: Callable[[Any], Any]) -> None:
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def result(self) -> Any:
        if len(self.stack) != 1:
            raise ValueError("the pickle leaves no single value")
        return self.stack[0]

    def above_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def step(self, name: str, argument: Any) -> None:
        """Execute one opcode."""
        stack = self.stack
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MARK":
                self.marks.append(len(stack))
            case "POP":
                if self.marks and self.marks[-1] == len(stack):
                    self.marks.pop()
                else:
                    stack.pop()
            case "POP_MARK":
                self.above_mark()
            case "DUP":
                stack.append(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "GLOBAL" | "STACK_GLOBAL" | "INST":
                self._named(name, argument)
            case "REDUCE" | "NEWOBJ" | "NEWOBJ_EX" | "OBJ":
                self._called(name)
            case "BUILD":
                state = stack.pop()
                stack[-1] = build(stack[-1], state)
            case "BINPERSID":
                stack.append(self.persistent(stack.pop()))
            case "PERSID" | "EXT1" | "EXT2" | "EXT4" | "NEXT_BUFFER" | "READONLY_BUFFER":
                raise RefusedError(f"the opcode {name}, which no checkpoint has")
            case _:
                self._data(name, argument)

    def _data(self, name: str, argument: Any) -> None:
        """Opcodes that make or fill containers, and plain values."""
        stack = self.stack
        if name in LITERALS:
            stack.append(LITERALS[name])
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name in TUPLES:
            count = TUPLES[name]
            if len(stack) < count:
                raise IndexError("stack")
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "TUPLE":
            stack.append(tuple(self.above_mark()))
        elif name in ("LIST", "FROZENSET"):
            stack.append(self.above_mark())
        elif name == "DICT":
            stack.append(_pairs(self.above_mark()))
        elif name == "APPEND":
            item = stack.pop()
            _list(stack[-1]).append(item)
        elif name in ("APPENDS", "ADDITEMS"):
            items = self.above_mark()
            _list(stack[-1]).extend(items)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _dict(stack[-1])[key] = value
        elif name == "SETITEMS":
            pairs = _pairs(self.above_mark())
            _dict(stack[-1]).update(pairs)
        elif isinstance(argument, str | bytes | bytearray | int | float):
            stack.append(argument)
        else:
            raise ValueError(f"opcode {name}")

    def _named(self, name: str, argument: Any) -> None:
        if name == "STACK_GLOBAL":
            attribute, module = self.stack.pop(), self.stack.pop()
            self.stack.append(Global(f"{_text(module)}.{_text(attribute)}"))
            return
        found = Global(".".join(argument.split(" ", 1)))
        self.stack.append(call(found, tuple(self.above_mark())) if name == "INST" else found)

    def _called(self, name: str) -> None:
        if name == "OBJ":
            function, *rest = self.above_mark()
            arguments: Any = tuple(rest)
        else:
            if name == "NEWOBJ_EX" and self.stack.pop():
                raise RefusedError("a call with named arguments")
            arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise ValueError("a call of something that is no name")
        self.stack.append(call(function, arguments))


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("items for something that is no list")
    return value


def _dict(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise TypeError("items for something that is no dict")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a name that is no text")
    return value
