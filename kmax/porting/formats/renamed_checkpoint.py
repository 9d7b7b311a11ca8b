"""A checkpoint without the parts of names that wrappers around a network add."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.porting.formats.source_checkpoint import Allocate, Checkpoint

# torch.compile, FSDP and activation checkpointing add parts anywhere in a name.
INNER = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# DistributedDataParallel, AveragedModel and classes of training programs add parts before all names.
OUTER = ("module.", "model.", "network.", "net.")


def without_wrappers(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with the names of the network inside the wrappers."""
    names = unwrapped(checkpoint)
    return (
        checkpoint if all(new == old for new, old in names.items()) else RenamedCheckpoint(checkpoint, names)
    )


def unwrapped(names: Iterable[str]) -> dict[str, str]:
    """The names without parts of wrappers, each with the original name.

    The beginning of names is cut only if all names that have a dot share it: counters of wrappers, such as
    `n_averaged`, have none. If two names would become equal, all are kept.
    """
    names = list(names)
    short = [".".join(part for part in name.split(".") if part not in INNER) for name in names]
    while (start := _common_start(short)) is not None:
        short = [name.removeprefix(start) for name in short]
    pairs = dict(zip(short, names, strict=True))
    return pairs if len(pairs) == len(names) and "" not in pairs else dict(zip(names, names, strict=True))


def _common_start(names: Iterable[str]) -> str | None:
    dotted = [name for name in names if "." in name]
    return next((start for start in OUTER if dotted and all(name.startswith(start) for name in dotted)), None)


class RenamedCheckpoint(Checkpoint):
    """A checkpoint under other names.

    Args:
        checkpoint: with the original names.
        names: the original name by the new one.
    """

    def __init__(self, checkpoint: Checkpoint, names: Mapping[str, str]) -> None:
        self._original, self._names = checkpoint, names
        self.path, self.metadata = checkpoint.path, checkpoint.metadata
        self.ignored, self.notes = checkpoint.ignored, checkpoint.notes

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._original[self._names[name]]

    def read(self, name: str, allocate: Allocate) -> NDArray[np.uint8]:
        """The tensor."""
        return self._original.read(self._names[name], allocate)

    def describe(self, name: str) -> tuple[tuple[int, ...], str]:
        """Shape and type of a tensor, without reading it."""
        return self._original.describe(self._names[name])

    def files(self) -> list[Path]:
        """All its files."""
        return self._original.files()

    def digested(self) -> list[Path]:
        """The files whose bytes identify the checkpoint."""
        return self._original.digested()

    def checksum(self, name: str, array: NDArray[Any]) -> int:
        """CRC-32C of a tensor's values as they were read."""
        return self._original.checksum(self._names[name], array)
