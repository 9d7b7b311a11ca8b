"""Writes TensorFlow checkpoints, valid or corrupt: parts can be replaced before checksums are computed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from kmax.porting.tensorflow.encoding import masked_crc

MAGIC = bytes.fromhex("57fb808b247547db")
TYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "bool": 10, "float16": 19}
Pairs = list[tuple[bytes, bytes]]


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(*parts: tuple[int, int | bytes]) -> bytes:
    """A protocol buffer; zeros are omitted, as TensorFlow does. Field 6 is a fixed32."""
    out = b""
    for number, value in parts:
        if isinstance(value, bytes):
            out += varint(number << 3 | 2) + varint(len(value)) + value
        elif number == 6:
            out += varint(number << 3 | 5) + struct.pack("<I", value)
        elif value:
            out += varint(number << 3) + varint(value)
    return out


def header(shards: int, *more: tuple[int, int | bytes]) -> bytes:
    return message((1, shards), *more, (3, message((1, 1))))


def entry(
    dtype: int,
    shape: Sequence[int],
    shard: int,
    offset: int,
    size: int,
    crc: int,
    *more: tuple[int, int | bytes],
) -> bytes:
    sides = b"".join(message((2, message((1, side)))) for side in shape)
    return message((1, dtype), (2, sides), (3, shard), (4, offset), (5, size), (6, crc), *more)


def block(pairs: Iterable[tuple[bytes, bytes]], interval: int = 16) -> bytes:
    """Entries with shared beginnings of keys, then the restarts."""
    out, restarts, last = bytearray(), [], b""
    for place, (key, value) in enumerate(pairs):
        shared = 0
        if place % interval == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(last), len(key)) and last[shared] == key[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    restarts = restarts or [0]
    return bytes(out) + b"".join(struct.pack("<I", at) for at in [*restarts, len(restarts)])


def snappy(data: bytes) -> bytes:
    """Compress: repeated runs of bytes become copies of 1-, 2- or 4-byte offsets in turn."""
    out, literal, at, seen, forms = bytearray(varint(len(data))), bytearray(), 0, {}, 0

    def flush() -> None:
        while literal:
            part = bytes(literal[: 1 << 16])
            del literal[: 1 << 16]
            length = len(part) - 1
            if length < 60:
                out.append(length << 2)
            elif length < 256:
                out.extend((60 << 2, length))
            else:
                out.append(61 << 2)
                out.extend(struct.pack("<H", length))
            out.extend(part)

    while at < len(data):
        key = data[at : at + 4]
        before = seen.get(key)
        seen[key] = at
        if before is None or len(key) < 4:
            literal.append(data[at])
            at += 1
            continue
        length = 4
        while length < 64 and at + length < len(data) and data[before + length] == data[at + length]:
            length += 1
        flush()
        offset = at - before
        forms += 1
        if length <= 11 and offset < 2048 and forms % 3 == 0:
            out.extend((offset >> 8 << 5 | (length - 4) << 2 | 1, offset & 255))
        elif offset < 65536 and forms % 3 != 1:
            out.append((length - 1) << 2 | 2)
            out.extend(struct.pack("<H", offset))
        else:
            out.append((length - 1) << 2 | 3)
            out.extend(struct.pack("<I", offset))
        at += length
    flush()
    return bytes(out)


def framed(content: bytes, kind: int = 0) -> bytes:
    """A block with its trailer."""
    body = content + bytes([kind])
    return body + struct.pack("<I", masked_crc(body))


def table(pairs: Pairs, compressed: bool = False, block_size: int = 256 * 1024) -> bytes:
    """An index file of these entries, in this order."""
    out, index, group, size = bytearray(), [], [], 0

    def add(content: bytes) -> bytes:
        place = len(out)
        stored = snappy(content) if compressed else content
        out.extend(framed(stored, int(compressed)))
        return varint(place) + varint(len(stored))

    for place, (key, value) in enumerate(pairs):
        group.append((key, value))
        size += len(key) + len(value)
        if size >= block_size or place == len(pairs) - 1:
            index.append((key, add(block(group))))
            group, size = [], 0
    metaindex = add(block([]))
    places = metaindex + add(block(index, interval=1))
    return bytes(out) + places + bytes(40 - len(places)) + MAGIC


def bundle(
    prefix: Path,
    tensors: Mapping[str, np.ndarray[Any, Any]],
    shards: int = 1,
    change: Callable[[Pairs], Pairs] = lambda pairs: pairs,
    **options: Any,
) -> Path:
    """Write a checkpoint: tensors in the order of names, dealt out to the shards in turn.

    Args:
        change: may replace the entries of the index.
        options: of `table`.
    """
    streams = [open(shard_path(prefix, number, shards), "wb") for number in range(shards)]  # noqa: SIM115
    pairs: Pairs = [(b"", header(shards))]
    for place, name in enumerate(sorted(tensors, key=str.encode)):
        array = np.ascontiguousarray(tensors[name])
        array = array.reshape(np.shape(tensors[name]))
        shard = place % shards
        offset = streams[shard].tell()
        streams[shard].write(array.reshape(-1).view(np.uint8).data)
        found = entry(TYPES[array.dtype.name], array.shape, shard, offset, array.nbytes, masked_crc(array))
        pairs.append((name.encode(), found))
    for stream in streams:
        stream.close()
    prefix.with_name(prefix.name + ".index").write_bytes(table(change(pairs), **options))
    return prefix


def shard_path(prefix: Path, number: int, shards: int) -> Path:
    return prefix.with_name(f"{prefix.name}.data-{number:05d}-of-{shards:05d}")


assert google_crc32c.value(b"123456789") == 0xE3069283
