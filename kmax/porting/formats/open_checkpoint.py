"""Opening of checkpoints of any format, in one file or several, with the names of wrappers removed."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from kmax.checkpoint_formats import CheckpointFormat
from kmax.errors import InputError
from kmax.file_kinds import INDEX, PICKLE, SAFETENSORS, TORCH, file_kind, missing
from kmax.porting.formats.renamed_checkpoint import without_wrappers
from kmax.porting.formats.sharded_checkpoint import ShardedCheckpoint, read_index
from kmax.porting.formats.source_checkpoint import Checkpoint

FORMATS = {TORCH: "torch", PICKLE: "torch", SAFETENSORS: "safetensors"}  # by kind of file


def open_checkpoint(path: Path, source: CheckpointFormat, state_dict: str | None = None) -> Checkpoint:
    """Open a checkpoint and read its names; tensors are read on demand.

    The format's module is `kmax.porting.formats.<source>_format`, whose `open_file` takes the path.

    Args:
        path: a file; for "tf" the common prefix of its files, or a folder with one checkpoint; for the others
            also the JSON index of a checkpoint in several files.
        source: the file's format.
        state_dict: name of one of several state dicts; only for "torch".

    Raises:
        InputError: missing, corrupt, of another format, or without tensors.
    """
    if state_dict is not None and source != "torch":
        raise InputError(f"{path}: only files of the format torch have several state dicts")
    checkpoint = _open_file(path, source, {} if state_dict is None else {"state_dict": state_dict})
    for name in checkpoint:
        if not name.isprintable():
            raise InputError(f"{path}: the tensor name {name[:80]!r} is not a printable string")
    if not checkpoint:
        raise InputError(f"{path}: contains no tensors")
    return checkpoint


def _open_file(path: Path, source: CheckpointFormat, options: dict[str, str]) -> Checkpoint:
    open_file: Any = importlib.import_module(f"kmax.porting.formats.{source}_format").open_file
    if source == "tf":
        bundle: Checkpoint = open_file(path)
        return bundle
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a checkpoint file")
    if not path.is_file():
        raise InputError(missing(path, "checkpoint"))
    kind = file_kind(path)
    if kind is not None and FORMATS.get(kind.name, source) != source:
        raise InputError(
            f"{path}: is {kind.description}, but the format {source} was given; give {FORMATS[kind.name]}"
        )
    if kind is None or kind.name != INDEX:
        return without_wrappers(open_file(path, **options))
    shard_of = read_index(path)
    shards = {shard: open_file(shard, **options) for shard in dict.fromkeys(shard_of.values())}
    return without_wrappers(ShardedCheckpoint(path, shard_of, shards))
