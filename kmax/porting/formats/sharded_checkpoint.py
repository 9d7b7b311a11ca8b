"""A checkpoint in several files, with a JSON index that names the file of each tensor.

The index is `{"weight_map": {tensor: file name, ...}, ...}`, as `transformers` writes it for files of
safetensors and of torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from kmax.errors import InputError
from kmax.file_kinds import missing
from kmax.files import read_json
from kmax.porting.formats.source_checkpoint import Allocate, Checkpoint

MAX_INDEX_BYTES = 64 * 2**20


def read_index(path: Path) -> dict[str, Path]:
    """The file of each tensor, by the tensor's name.

    Raises:
        InputError: not an index, or it names files that are not beside it.
    """
    if path.stat().st_size > MAX_INDEX_BYTES:
        raise InputError(f"{path}: larger than {MAX_INDEX_BYTES} bytes, the limit for an index")
    content = read_json(path, "index of a checkpoint")
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise InputError(f"{path}: weight_map: expected a mapping from tensors to file names")
    faults = []
    for name in dict.fromkeys(names.values()):
        if Path(name).name != name or "\\" in name:
            faults.append(f"{path}: weight_map: {name[:80]!r} is not the name of a file beside the index")
        elif not path.with_name(name).is_file():
            faults.append(missing(path.with_name(name), f"file of {path.name}"))
    if faults:
        raise InputError(faults)
    return {tensor: path.with_name(name) for tensor, name in names.items()}


class ShardedCheckpoint(Checkpoint):
    """The tensors of several files.

    Args:
        index: path of the index.
        shard_of: path of the file by tensor.
        shards: the files, opened, by path.

    Raises:
        InputError: the files do not have the tensors that the index lists.
    """

    def __init__(self, index: Path, shard_of: Mapping[str, Path], shards: Mapping[Path, Checkpoint]) -> None:
        self.path, self._shard_of, self._shards = index, shard_of, shards
        faults = []
        for path, shard in shards.items():
            listed = {name for name, place in shard_of.items() if place == path}
            differences = {"missing, but in": listed - shard.keys(), "not in": shard.keys() - listed}
            for what, names in differences.items():
                if names:
                    count = f"{len(names)} tensors, such as '{min(names)}',"
                    faults.append(f"{path}: {count} are {what} {index.name}")
        if faults:
            raise InputError(faults)
        ignored = (shard.ignored.items() for shard in shards.values())
        self.ignored = dict(chain.from_iterable(ignored))
        self.notes = tuple(chain.from_iterable(shard.notes for shard in shards.values()))

    def __len__(self) -> int:
        return len(self._shard_of)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shard_of)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._shards[self._shard_of[name]][name]

    def read(self, name: str, allocate: Allocate) -> NDArray[Any]:
        """The tensor."""
        return self._shards[self._shard_of[name]].read(name, allocate)

    def describe(self, name: str) -> tuple[tuple[int, ...], str]:
        """Shape and type of a tensor, without reading it."""
        return self._shards[self._shard_of[name]].describe(name)

    def files(self) -> list[Path]:
        """The index and all files that it lists."""
        return [self.path, *self._shards]
