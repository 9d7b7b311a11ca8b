"""Finding the prefix of a checkpoint, the common prefix of its files."""

from __future__ import annotations

import re
from pathlib import Path

from kmax.errors import InputError
from kmax.file_kinds import instead_of
from kmax.folders import list_files

SHARD = re.compile(r"(.+)\.data-\d{5}-of-\d{5}")
STATE = re.compile(r'^model_checkpoint_path:\s*"([^"\n]+)"', re.MULTILINE)
MAX_STATE_BYTES = 2**20


def find_prefix(path: Path) -> Path:
    """The prefix of the checkpoint at `path`, which is a prefix or a folder.

    In a folder, the file `checkpoint` names the latest one; without this file the folder must contain a
    single `*.index`, at any depth.

    Raises:
        InputError: none, several, or `path` is one of the files instead of their prefix.
    """
    if path.with_name(path.name + ".index").is_file():
        return path
    if path.is_dir():
        return _in_folder(path)
    shard = SHARD.fullmatch(path.name)
    if path.name.endswith(".index") or shard:
        prefix = shard[1] if shard else path.name.removesuffix(".index")
        raise InputError(
            f"{path}: this is one file of a TensorFlow checkpoint; pass the common prefix of its files: "
            f"{path.with_name(prefix)}"
        )
    instead = instead_of(path)
    found = f", and the file itself is {instead}" if instead else ""
    raise InputError(f"{path}: not a TensorFlow checkpoint: {path.name}.index not found{found}")


def _in_folder(folder: Path) -> Path:
    state = folder / "checkpoint"
    if state.is_file():
        if state.stat().st_size > MAX_STATE_BYTES:
            raise InputError(f"{state}: larger than {MAX_STATE_BYTES} bytes, the limit for such a file")
        found = STATE.search(state.read_text(errors="replace"))
        if not found:
            raise InputError(f"{state}: names no checkpoint (model_checkpoint_path)")
        name = found[1].replace("\\", "/").rsplit("/", 1)[-1]  # the writer's folder may be another machine's
        if name in ("", ".", "..") or not (folder / f"{name}.index").is_file():
            raise InputError(
                f"{state}: names the checkpoint '{name}', but {folder / name}.index was not found"
            )
        return folder / name
    return single_index(folder)


def single_index(folder: Path) -> Path:
    """The prefix of the only checkpoint below `folder`.

    Raises:
        InputError: none, or several.
    """
    indexes = list_files(folder, [".index"]).paths()
    if len(indexes) != 1:
        found = ", ".join(str(path.relative_to(folder)) for path in indexes[:5])
        raise InputError(
            f"{folder}: expected a single *.index in it, found {len(indexes)}"
            + (f": {found}" if found else "")
        )
    return indexes[0].with_name(indexes[0].name.removesuffix(".index"))
