"""Read a JSON object with long lists one entry at a time, so that memory does not grow with the file."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kmax.errors import InputError

EMPTY: list[Any] = []  # marks a list without entries
_BLOCK = 2**20
_SPACE = " \t\n\r"
_AFTER = frozenset(_SPACE + ",:]}")


def entries(path: Path, what: str, inside: frozenset[str] | set[str]) -> Iterator[tuple[str, Any]]:
    """The parts of the object in a JSON file, in its order.

    Args:
        what: name of the file's role in errors.
        inside: keys of the lists whose entries are yielded.

    Yields:
        (key, entry) for each entry of a list under a key of `inside`; (key, EMPTY) for an empty list;
        (key, value) for other values. Entries of other lists are discarded as they are read.

    Raises:
        InputError: missing, unreadable, or not JSON.
    """
    try:
        with open(path, "rb") as stream:
            yield from _Scanner(stream).parts(inside)
    except FileNotFoundError:
        raise InputError(f"{path}: {what} not found") from None
    except (OSError, RecursionError, ValueError) as error:
        raise InputError(f"{path}: {what} cannot be read as JSON: {error}") from error


class _Scanner:
    """A window of text that moves over the file; text that has been parsed is discarded."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._parse = json.JSONDecoder().raw_decode
        self._text, self._at, self._ended = "", 0, False

    def parts(self, inside: frozenset[str] | set[str]) -> Iterator[tuple[str, Any]]:
        if self._peek() != "{":
            yield "", self._value()  # not an object: the caller reports it
        else:
            seen: set[str] = set()
            for _ in self._list("{", "}"):
                key = self._value()
                if not isinstance(key, str):
                    raise ValueError("a key is not a string")
                if key in inside and key in seen:
                    raise ValueError(f"the key '{key}' occurs twice")
                seen |= inside & {key}
                self._take(":")
                if self._peek() != "[":
                    yield key, self._value()
                    continue
                read = 0
                for _ in self._list("[", "]"):
                    entry = self._value()
                    read += 1
                    if key in inside:
                        yield key, entry
                if not read:
                    yield key, EMPTY
        if self._peek():
            raise ValueError("extra data after the end")

    def _list(self, opening: str, closing: str) -> Iterator[None]:
        """Stop before each member, which the caller reads."""
        self._take(opening)
        if self._peek() == closing:
            self._take(closing)
            return
        while True:
            yield
            if self._peek() != ",":
                break
            self._take(",")
        self._take(closing)

    def _value(self) -> Any:
        self._peek()
        block = _BLOCK
        while True:
            try:
                value, end = self._parse(self._text, self._at)
            except json.JSONDecodeError:
                if self._ended:
                    raise
            else:
                if self._text[end : end + 1] in _AFTER or self._ended:  # a number may go on in the next block
                    self._at = end
                    return value
            self._read(block)
            block *= 2

    def _peek(self) -> str:
        """The next character other than white space; '' at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._read(_BLOCK)

    def _take(self, character: str) -> None:
        if (found := self._peek()) != character:
            raise ValueError(f"expected {character!r}, found {found or 'the end'!r}")
        self._at += 1

    def _read(self, size: int) -> None:
        block = self._stream.read(size)
        self._ended = not block
        self._text = self._text[self._at :] + self._decode.decode(block, final=self._ended)
        self._at = 0
