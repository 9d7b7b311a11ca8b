"""The index of a bundle: a sorted table of keys and values in checksummed blocks, LevelDB's format.

The last 48 bytes hold the places of the metaindex block and of the index block, whose values are the places
of the data blocks.
"""

from __future__ import annotations

from collections.abc import Iterator

from kmax.porting.tensorflow.checksum import masked_crc
from kmax.porting.tensorflow.snappy import uncompress
from kmax.porting.tensorflow.wire import DamagedError, varint

FOOTER, MAGIC, TRAILER = 48, bytes.fromhex("57fb808b247547db"), 5
UNCOMPRESSED, SNAPPY = 0, 1
# Keys are stored without what they share with their predecessor, so a small file can hold many long keys.
MAX_KEY_BYTES = 16 * 2**20


def read_table(data: bytes) -> dict[str, bytes]:
    """All entries of the table, in order; keys rise strictly.

    Raises:
        DamagedError: anything that such a table never has.
    """
    if len(data) < FOOTER or data[-8:] != MAGIC:
        raise DamagedError("not an index of a TensorFlow checkpoint (its last 8 bytes are not an index's)")
    metaindex, at = _handle(data, len(data) - FOOTER)
    index, _ = _handle(data, at)
    _block(data, *metaindex)
    entries: dict[str, bytes] = {}
    last, end, budget = None, 0, max(MAX_KEY_BYTES, 2 * len(data))
    for _, value in _entries(_block(data, *index)):
        (offset, size), _ = _handle(value, 0)
        if offset < end:
            raise DamagedError("blocks of the index overlap")
        end = offset + size
        for key, content in _entries(_block(data, offset, size)):
            if last is not None and key <= last:
                raise DamagedError(f"the key '{_text(key)}' comes twice, or out of order")
            budget -= len(key)
            if budget < 0:
                raise DamagedError("the keys of the index are far longer than its file")
            last = key
            entries[_text(key)] = content
    return entries


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """(offset, size) of a block, and the place behind."""
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return (offset, size), at


def _block(data: bytes, offset: int, size: int) -> bytes:
    """The content of a block: checked, unpacked."""
    end = offset + size
    if end + TRAILER > len(data) - FOOTER:
        raise DamagedError("a block of the index passes the end of the file")
    kind = data[end]
    stored = int.from_bytes(data[end + 1 : end + TRAILER], "little")
    if masked_crc(data[offset : end + 1]) != stored:
        raise DamagedError(
            f"the index block at byte {offset} does not have its checksum: the file is damaged"
        )
    if kind == UNCOMPRESSED:
        return data[offset:end]
    if kind == SNAPPY:
        return uncompress(data[offset:end])
    raise DamagedError(f"the index block at byte {offset} has compression type {kind}; there are 0 and 1")


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of a block: each key tells how many bytes it shares with the one before."""
    if len(block) < 4:
        raise DamagedError("a block of the index is too short")
    end = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")
    if end < 0:
        raise DamagedError("a block of the index states more restarts than it can hold")
    key, at = b"", 0
    while at < end:
        shared, at = varint(block, at)
        added, at = varint(block, at)
        length, at = varint(block, at)
        if shared > len(key) or at + added + length > end:
            raise DamagedError("an entry of the index passes its block")
        key = key[:shared] + block[at : at + added]
        at += added
        yield key, block[at : at + length]
        at += length


def _text(key: bytes) -> str:
    text = key.decode(errors="replace")
    if not text.isprintable() or "\ufffd" in text:
        raise DamagedError(f"the key {key[:60]!r} is not text")
    return text
