"""Decoder of Snappy's raw format (format_description.txt of google/snappy), for blocks of an index."""

from __future__ import annotations

from kmax.porting.tensorflow.wire import DamagedError, varint

# A copy of 64 bytes takes 3: no block of n bytes unpacks to more.
MAX_RATIO = 22


def uncompress(data: bytes) -> bytes:
    """Unpack a block.

    Raises:
        DamagedError: not Snappy, or not of the length that it states.
    """
    wanted, at = varint(data, 0)
    if wanted > MAX_RATIO * len(data):
        raise DamagedError("a compressed block states a length that its bytes cannot unpack to")
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        at = _literal(data, at, tag >> 2, out) if tag & 3 == 0 else _copy(data, at, tag, out)
        if len(out) > wanted:
            break
    if len(out) != wanted:
        raise DamagedError("a compressed block unpacks to another length than it states")
    return bytes(out)


def _literal(data: bytes, at: int, length: int, out: bytearray) -> int:
    """Append bytes that stand in the block itself; returns the place behind them."""
    if length >= 60:
        size = length - 59
        length, at = int.from_bytes(data[at : at + size], "little"), at + size
    length += 1
    if at + length > len(data):
        raise DamagedError("a compressed block is cut off")
    out += data[at : at + length]
    return at + length


def _copy(data: bytes, at: int, tag: int, out: bytearray) -> int:
    """Append bytes that were unpacked before; the source may run into what is being written."""
    size = (0, 1, 2, 4)[tag & 3]
    if at + size > len(data):
        raise DamagedError("a compressed block is cut off")
    offset = int.from_bytes(data[at : at + size], "little")
    length = (tag >> 2) + 1
    if size == 1:
        offset |= tag >> 5 << 8
        length = (tag >> 2 & 7) + 4
    if not 0 < offset <= len(out):
        raise DamagedError("a compressed block copies from before its start")
    start = len(out) - offset
    pattern = out[start : start + length]
    out += (pattern * (length // len(pattern) + 1))[:length]
    return at + size
