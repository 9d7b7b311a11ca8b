"""Checkpoints of TensorFlow, read without it: `<prefix>.index` and `<prefix>.data-0000i-of-0000n`.

The format is core/util/tensor_bundle. Sizes are checked before memory is allocated, and tensors against their
checksums.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from kmax.errors import InputError
from kmax.file_kinds import instead_of
from kmax.porting.formats.source_checkpoint import Allocate, Checkpoint
from kmax.porting.tensorflow.encoding import (
    CorruptError,
    content_field,
    fields,
    masked,
    masked_crc,
    unmasked,
    varint,
)
from kmax.porting.tensorflow.locate import find_prefix
from kmax.porting.tensorflow.table import read_table
from kmax.porting.tensorflow.tensor_entry import (
    BFLOAT16,
    NUMPY,
    STRING,
    TensorEntry,
    parse_entry,
    parse_header,
)

MAX_INDEX_BYTES = 256 * 2**20
MAX_STRINGS = 2**20
BLOCK = 2**19  # bytes
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


def open_file(path: Path) -> Checkpoint:
    """Open the checkpoint that a prefix of files or a folder names.

    Raises:
        InputError: none, several, or a corrupt one.
    """
    return Bundle(find_prefix(path))


class Bundle(Checkpoint):
    """The tensors of a checkpoint by name, read one at a time and checked against their checksums.

    Names match TensorFlow's `tf.train.load_checkpoint`. bfloat16 is widened to float32.

    Attributes:
        path: common prefix of the files.
        entries: each tensor's entry in the index, in the order of names.
    """

    def __init__(self, prefix: Path) -> None:
        """Read the index; the shards' sizes are checked, their tensors not read.

        Raises:
            InputError: missing or corrupt; names file and tensor.
        """
        self.path = prefix
        self.index = prefix.with_name(prefix.name + ".index")
        try:
            if self.index.stat().st_size > MAX_INDEX_BYTES:
                raise InputError(f"{self.index}: larger than {MAX_INDEX_BYTES} bytes, the limit for an index")
            table = read_table(self.index.read_bytes())
            if "" not in table:
                raise CorruptError("it has no header")
            header = parse_header(table.pop(""))
        except OSError as error:
            raise InputError(f"{self.index}: cannot be read: {error.strerror}") from error
        except CorruptError as error:
            raise InputError(f"{self.index}: {instead_of(self.index) or error}") from error
        self.num_shards = header.num_shards
        self._sizes = dict(self._find_shards())
        self.entries = {name: self._checked(name, message) for name, message in table.items()}

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Read one tensor into new memory; see `read`."""
        return self.read(name, lambda size: np.empty(size, dtype=np.uint8))

    def read(self, name: str, allocate: Allocate) -> NDArray[Any]:
        """Read one tensor; string tensors are arrays of `bytes` objects.

        Args:
            allocate: returns as many bytes of memory to read into; the result may use them.

        Raises:
            KeyError: no such tensor.
            InputError: its bytes are not those that were written.
        """
        entry = self.entries[name]
        content = allocate(entry.size)
        crc = self._read(name, entry, content)
        if entry.dtype == STRING:
            return self._strings(name, entry, content.tobytes())
        if masked(crc) != entry.crc:
            raise self._fault(name, entry, "checksum mismatch: the file is corrupt")
        array = content.view("<" + NUMPY[entry.dtype]).reshape(entry.shape)
        if entry.dtype == BFLOAT16:
            return (array.astype("<u4") << 16).view("<f4").reshape(entry.shape)
        return array

    def shard(self, number: int) -> Path:
        """The file of one shard."""
        name = f"{self.path.name}.data-{number:05d}-of-{self.num_shards:05d}"
        return self.path.with_name(name)

    def describe(self, name: str) -> tuple[tuple[int, ...], str]:
        """Shape and type of a tensor, without reading it."""
        entry = self.entries[name]
        return entry.shape, entry.dtype_name

    def digested(self) -> list[Path]:
        """The index, which has a checksum of every tensor."""
        return [self.index]

    def checksum(self, name: str, array: NDArray[Any]) -> int:
        """The checksum that was just compared, unless its bytes were converted."""
        entry = self.entries[name]
        return super().checksum(name, array) if entry.dtype == BFLOAT16 else unmasked(entry.crc)

    def variables(self) -> dict[str, str]:
        """The name of the variable behind each tensor, by the tensor's name, from the object graph.

        Empty if the checkpoint has no object graph. Tensors without a variable's name are omitted.

        Raises:
            InputError: the graph is corrupt.
        """
        if OBJECT_GRAPH not in self:
            return {}
        graph = self[OBJECT_GRAPH]
        try:
            if graph.shape != ():
                raise CorruptError("not a single string")
            return {key: name for key, name in _attributes(bytes(graph[()])) if name}
        except (CorruptError, TypeError, ValueError) as error:
            raise InputError(f"{self.index}: tensor '{OBJECT_GRAPH}': corrupt: {error}") from error

    def files(self) -> list[Path]:
        """All files of the checkpoint."""
        return [self.index, *(self.shard(number) for number in range(self.num_shards))]

    def _find_shards(self) -> Iterator[tuple[int, int]]:
        for number in range(self.num_shards):
            path = self.shard(number)
            if not path.is_file():
                raise InputError(
                    f"{path}: not found, but {self.index.name} states that the checkpoint has "
                    f"{self.num_shards} data files"
                )
            yield number, path.stat().st_size

    def _checked(self, name: str, message: bytes) -> TensorEntry:
        try:
            entry = parse_entry(message)
        except CorruptError as error:
            raise InputError(f"{self.index}: tensor '{name}': {error}") from error
        if entry.shard not in self._sizes:
            raise InputError(
                f"{self.index}: tensor '{name}': in data file {entry.shard} of {self.num_shards}"
            )
        if entry.offset + entry.size > self._sizes[entry.shard]:
            raise self._fault(
                name,
                entry,
                f"bytes {entry.offset} to {entry.offset + entry.size} are beyond the end of the file "
                f"({self._sizes[entry.shard]} bytes): it is truncated or belongs to another checkpoint",
            )
        return entry

    def _read(self, name: str, entry: TensorEntry, content: NDArray[np.uint8]) -> int:
        """Fill `content`; returns its CRC-32C, taken of blocks while they are in the processor's cache."""
        view, done, crc = memoryview(content.data), 0, 0
        try:
            with open(self.shard(entry.shard), "rb", buffering=0) as stream:
                stream.seek(entry.offset)
                while done < entry.size:
                    count = stream.readinto(view[done : done + BLOCK])
                    if not count:
                        raise self._fault(name, entry, "the file ended while it was being read")
                    crc = google_crc32c.extend(crc, content[done : done + count])
                    done += count
        except OSError as error:
            raise self._fault(name, entry, f"cannot be read: {error.strerror}") from error
        return crc

    def _strings(self, name: str, entry: TensorEntry, content: bytes) -> NDArray[Any]:
        """Lengths, their checksum, the strings; the entry's checksum takes lengths as integers of 4 bytes."""
        count = math.prod(entry.shape)
        if count > MAX_STRINGS:
            raise self._fault(name, entry, f"more than {MAX_STRINGS} strings")
        try:
            at, lengths = 0, []
            for _ in range(count):
                length, at = varint(content, at)
                lengths.append(length)
            if at + 4 + sum(lengths) != len(content):
                raise CorruptError("lengths of strings do not fit its bytes")
        except CorruptError as error:
            raise self._fault(name, entry, str(error)) from error
        wide = b"".join(length.to_bytes(4 if length < 1 << 32 else 8, "little") for length in lengths)
        check, start = content[at : at + 4], at + 4
        if masked_crc(wide) != int.from_bytes(check, "little") or (
            masked_crc(wide + content[at:]) != entry.crc
        ):
            raise self._fault(name, entry, "checksum mismatch: the file is corrupt")
        array = np.empty(count, dtype=object)
        for place, length in enumerate(lengths):
            array[place] = content[start : start + length]
            start += length
        return array.reshape(entry.shape)

    def _fault(self, name: str, entry: TensorEntry, what: str) -> InputError:
        path = self.shard(entry.shard)
        instead = instead_of(path)
        reason = "" if instead is None else f" (the file is {instead})"
        return InputError(f"{path}: tensor '{name}': {what}{reason}")


def _attributes(graph: bytes) -> Iterator[tuple[str, str]]:
    """(tensor's name, variable's name), from TrackableObjectGraph.nodes[].attributes[]."""
    for place, node in fields(graph):
        if place != 1:
            continue
        for inner, attribute in fields(content_field(node)):
            if inner == 2:
                strings = {
                    number: value for number, value in fields(content_field(attribute)) if number in (2, 3)
                }
                name, key = (content_field(strings.get(number, b"")).decode() for number in (2, 3))
                yield key, name
