"""Encodings in TensorFlow's checkpoint files: varints, protocol buffer fields, checksums.

The bytes are untrusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import google_crc32c

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10
MASK_DELTA = 0xA282EAD8


class CorruptError(ValueError):
    """The bytes violate their format; the message says how."""


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The integer at `at` and the position after it.

    Raises:
        CorruptError: truncated, or more than 64 bits.
    """
    value = 0
    for count in range(MAX_VARINT_BYTES):
        if at + count >= len(data):
            raise CorruptError("a number is truncated")
        byte = data[at + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at + count + 1
    raise CorruptError("a number has more than 64 bits")


def signed(value: int) -> int:
    """A 64-bit varint as a signed number."""
    return value - (1 << 64) if value >> 63 else value


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of every field of a message, in order: numbers as they are, the rest as bytes.

    Raises:
        CorruptError: truncated, or of an unknown wire type.
    """
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise CorruptError("a field has number 0")
        if kind == VARINT:
            value, at = varint(message, at)
            yield number, value
            continue
        if kind == BYTES:
            length, at = varint(message, at)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise CorruptError(f"a field has wire type {kind}")
        if length > len(message) - at:
            raise CorruptError("a field is truncated")
        content = message[at : at + length]
        at += length
        yield number, content if kind == BYTES else int.from_bytes(content, "little")


def number_field(value: int | bytes) -> int:
    """A field that must be a number."""
    if isinstance(value, bytes):
        raise CorruptError("expected a number field")
    return value


def content_field(value: int | bytes) -> bytes:
    """A field that must be a string or a message."""
    if isinstance(value, int):
        raise CorruptError("expected a message field")
    return value


def masked_crc(content: Any) -> int:
    """CRC-32C of `content`, rotated right by 15 bits plus a constant (LevelDB's `crc32c::Mask`)."""
    return masked(google_crc32c.value(content))


def masked(crc: int) -> int:
    """A CRC-32C as it is stored."""
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF


def unmasked(crc: int) -> int:
    """The inverse of `masked`."""
    rotated = (crc - MASK_DELTA) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF
