"""Checkpoints of a training: written atomically, the newest two kept, a damaged one passed over.

A checkpoint is one file of `torch.save`, read with `weights_only=True` (tensors and plain values, no code).
It is a ZIP archive whose entries carry checksums; they are verified here, as torch itself does not.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from kmax.errors import InputError
from kmax.files import atomic_path

KEPT = 2
_NAME = re.compile(r"checkpoint-(\d{8})\.pt")


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in `folder`, newest first."""
    return sorted(
        (path for path in folder.glob("checkpoint-*.pt") if _NAME.fullmatch(path.name)), reverse=True
    )


def step_of(path: Path) -> int:
    """Number of updates done when the checkpoint was written."""
    match = _NAME.fullmatch(path.name)
    assert match is not None, path
    return int(match.group(1))


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write `state` after `step` updates, then remove all but the newest two.

    Raises:
        InputError: the folder cannot be written or the disk is full; older checkpoints stay.
    """
    path = folder / f"checkpoint-{step:08d}.pt"
    with atomic_path(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # how torch reports a failed write
            raise InputError(
                f"{path}: cannot be written (disk full?): {str(error).splitlines()[0]}"
            ) from error
    for old in checkpoints(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def load(path: Path) -> dict[str, Any]:
    """Read one checkpoint onto the CPU, after checking its checksums.

    Raises:
        InputError: damaged or not a checkpoint.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise InputError(f"{path}: damaged checkpoint: wrong checksum of {damaged}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib and torch raise all kinds on garbage
        raise InputError(
            f"{path}: damaged checkpoint: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from error
    if not isinstance(state, dict) or state.get("step") != step_of(path):
        raise InputError(f"{path}: damaged checkpoint: it does not hold the step that its name says")
    return state


def newest(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest intact checkpoint, None where there is none at all; and one warning per damaged newer one.

    Raises:
        InputError: there are checkpoints, but every one is damaged.
    """
    faults: list[str] = []
    for path in checkpoints(folder):
        try:
            load(path)
        except InputError as error:
            faults.append(str(error))
        else:
            return path, [f"{fault}; falling back to an older one" for fault in faults]
    if faults:
        raise InputError([*faults, f"{folder}: no checkpoint can be read; train anew with --fresh"])
    return None, []


def remove_all(folder: Path) -> None:
    """Remove every checkpoint, to train anew."""
    for path in checkpoints(folder):
        path.unlink(missing_ok=True)
