"""The index of a bundle: a sorted table of keys and values in checksummed blocks, LevelDB's format.

The last 48 bytes hold the positions of the metaindex block and of the index block, whose values are the
positions of the data blocks. Blocks may be compressed in Snappy's raw format (format_description.txt of
google/snappy).
"""

from __future__ import annotations

from collections.abc import Iterator

from kmax.porting.tensorflow.encoding import CorruptError, masked_crc, varint

FOOTER, MAGIC, TRAILER = 48, bytes.fromhex("57fb808b247547db"), 5
UNCOMPRESSED, SNAPPY = 0, 1
# Keys are stored without what they share with their predecessor, so a small file can hold many long keys.
MAX_KEY_BYTES = 16 * 2**20
# A copy of 64 bytes takes 3: no compressed block of n bytes unpacks to more than 22 n.
MAX_RATIO = 22


def read_table(data: bytes) -> dict[str, bytes]:
    """All entries of the table, in order; keys rise strictly.

    Raises:
        CorruptError: a violation of the format.
    """
    if len(data) < FOOTER or data[-8:] != MAGIC:
        raise CorruptError(
            "not an index of a TensorFlow checkpoint (its last 8 bytes are not the magic number)"
        )
    metaindex, at = _handle(data, len(data) - FOOTER)
    index, _ = _handle(data, at)
    _block(data, *metaindex)
    entries: dict[str, bytes] = {}
    last, end, budget = None, 0, max(MAX_KEY_BYTES, 2 * len(data))
    for _, value in _entries(_block(data, *index)):
        (offset, size), _ = _handle(value, 0)
        if offset < end:
            raise CorruptError("blocks of the index overlap")
        end = offset + size
        for key, content in _entries(_block(data, offset, size)):
            if last is not None and key <= last:
                raise CorruptError(f"the key '{_text(key)}' is a duplicate or out of order")
            budget -= len(key)
            if budget < 0:
                raise CorruptError("the keys of the index are far longer than the file")
            last = key
            entries[_text(key)] = content
    return entries


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """(offset, size) of a block, and the position after it."""
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return (offset, size), at


def _block(data: bytes, offset: int, size: int) -> bytes:
    """The content of a block: checked, unpacked."""
    end = offset + size
    if end + TRAILER > len(data) - FOOTER:
        raise CorruptError("a block of the index extends beyond the end of the file")
    kind = data[end]
    stored = int.from_bytes(data[end + 1 : end + TRAILER], "little")
    if masked_crc(data[offset : end + 1]) != stored:
        raise CorruptError(f"checksum mismatch in the index block at byte {offset}: the file is corrupt")
    if kind == UNCOMPRESSED:
        return data[offset:end]
    if kind == SNAPPY:
        return uncompress(data[offset:end])
    raise CorruptError(f"the index block at byte {offset} has the unknown compression type {kind}")


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of a block: each key states how many bytes it shares with the previous one."""
    if len(block) < 4:
        raise CorruptError("a block of the index is too short")
    end = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")
    if end < 0:
        raise CorruptError("a block of the index declares more restarts than it can hold")
    key, at = b"", 0
    while at < end:
        shared, at = varint(block, at)
        added, at = varint(block, at)
        length, at = varint(block, at)
        if shared > len(key) or at + added + length > end:
            raise CorruptError("an entry of the index extends beyond its block")
        key = key[:shared] + block[at : at + added]
        at += added
        yield key, block[at : at + length]
        at += length


def _text(key: bytes) -> str:
    text = key.decode(errors="replace")
    if not text.isprintable() or "\ufffd" in text:
        raise CorruptError(f"the key {key[:60]!r} is not printable text")
    return text


def uncompress(data: bytes) -> bytes:
    """Unpack a Snappy block.

    Raises:
        CorruptError: not Snappy, or not of the length that it states.
    """
    wanted, at = varint(data, 0)
    if wanted > MAX_RATIO * len(data):
        raise CorruptError("a compressed block declares a length that its bytes cannot unpack to")
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        at = _literal(data, at, tag >> 2, out) if tag & 3 == 0 else _copy(data, at, tag, out)
        if len(out) > wanted:
            break
    if len(out) != wanted:
        raise CorruptError("a compressed block unpacks to a different length than declared")
    return bytes(out)


def _literal(data: bytes, at: int, length: int, out: bytearray) -> int:
    """Append bytes that are stored in the block; returns the position after them."""
    if length >= 60:
        size = length - 59
        length, at = int.from_bytes(data[at : at + size], "little"), at + size
    length += 1
    if at + length > len(data):
        raise CorruptError("a compressed block is truncated")
    out += data[at : at + length]
    return at + length


def _copy(data: bytes, at: int, tag: int, out: bytearray) -> int:
    """Append bytes that were unpacked before; source and target may overlap."""
    size = (0, 1, 2, 4)[tag & 3]
    if at + size > len(data):
        raise CorruptError("a compressed block is truncated")
    offset = int.from_bytes(data[at : at + size], "little")
    length = (tag >> 2) + 1
    if size == 1:
        offset |= tag >> 5 << 8
        length = (tag >> 2 & 7) + 4
    if not 0 < offset <= len(out):
        raise CorruptError("a compressed block copies from before its start")
    start = len(out) - offset
    pattern = out[start : start + length]
    out += (pattern * (length // len(pattern) + 1))[:length]
    return at + size
