"""An entry of the index: type and shape of a tensor, and the position of its bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kmax.porting.tensorflow.encoding import CorruptError, content_field, fields, number_field, signed

STRING, BFLOAT16, RESOURCE = 7, 14, 20
# tensorflow/core/framework/types.proto; bfloat16 has no numpy type and is read as float32.
NUMPY = {1: "f4", 2: "f8", 3: "i4", 4: "u1", 5: "i2", 6: "i1", 9: "i8", 10: "?", BFLOAT16: "u2", 17: "u2"}
NUMPY |= {19: "f2", 22: "u4", 23: "u8"}
NAMES = {7: "string", 8: "complex64", 14: "bfloat16", 18: "complex128", 20: "resource", 21: "variant"}
MAX_DIMENSIONS = 254


@dataclass(frozen=True)
class TensorEntry:
    """One tensor: its type (a number of types.proto), shape, shard, and bytes offset..offset+size there."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int

    @property
    def dtype_name(self) -> str:
        """For example "float32"."""
        return NAMES.get(self.dtype) or np.dtype(NUMPY[self.dtype]).name

    @property
    def count(self) -> int:
        """Number of elements."""
        count = 1
        for side in self.shape:
            count *= side
        return count


@dataclass(frozen=True)
class Header:
    """The entry of the empty key."""

    num_shards: int


def parse_header(message: bytes) -> Header:
    """Read the header.

    Raises:
        CorruptError: corrupt, or written on a big-endian machine.
    """
    shards = 0
    for place, value in fields(message):
        if place == 1:
            shards = number_field(value)
        elif place == 2 and number_field(value) != 0:
            raise CorruptError("written on a big-endian machine, which is not supported")
    if shards < 1:
        raise CorruptError("the header declares no shards")
    return Header(shards)


def parse_entry(message: bytes) -> TensorEntry:
    """Read an entry; zeros are omitted in the message.

    Raises:
        CorruptError: corrupt, stored in slices, not numeric, or shape and size disagree.
    """
    found = {1: 0, 3: 0, 4: 0, 5: 0, 6: 0}
    shape: tuple[int, ...] = ()
    for place, value in fields(message):
        if place in found:
            found[place] = number_field(value)
        elif place == 2:
            shape = _shape(content_field(value))
        elif place == 7:
            raise CorruptError("stored in slices (a partitioned variable), which is not supported")
    entry = TensorEntry(found[1], shape, found[3], found[4], found[5], found[6])
    if entry.dtype != STRING and entry.dtype not in NUMPY:
        what = NAMES.get(entry.dtype, "unknown")
        raise CorruptError(f"type {entry.dtype} ({what}) cannot hold weights")
    if entry.dtype == STRING:
        if entry.count > entry.size:
            raise CorruptError(f"shape {list(shape)} does not fit its {entry.size} bytes")
    elif entry.count * np.dtype(NUMPY[entry.dtype]).itemsize != entry.size:
        raise CorruptError(f"shape {list(shape)} of {entry.dtype_name} does not fit its {entry.size} bytes")
    return entry


def _shape(message: bytes) -> tuple[int, ...]:
    sides = []
    for place, value in fields(message):
        if place == 2:
            side = 0
            for inner, size in fields(content_field(value)):
                if inner == 1:
                    side = signed(number_field(size))
            if side < 0:
                raise CorruptError("the shape has a negative dimension")
            sides.append(side)
            if len(sides) > MAX_DIMENSIONS:
                raise CorruptError("too many dimensions")
        elif place == 3 and number_field(value):
            raise CorruptError("the shape has no known rank")
    return tuple(sides)
