"""Copies of the predict command that share one prediction: each knows whether the others are still running.

A copy holds a file lock while it runs. The kernel releases it when the copy ends, for whatever reason.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kmax.errors import InputError
from kmax.files import exclusive_lock
from kmax.inference.prediction_shards import Shard

POLL_SECONDS = 0.5
PATIENCE_SECONDS = 5.0  # while no other copy is running
LAUNCHED_PATIENCE_SECONDS = 50.0  # the same with signs of a launcher, whose copies may start late
LAUNCHERS = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "SLURM_PROCID")


@dataclass(frozen=True)
class Peers:
    """This copy among those of its launcher.

    Attributes:
        folder: of the finished shards; it also holds the locks.
        rank: index of this copy.
        world: number of copies.
    """

    folder: Path
    rank: int
    world: int

    @contextlib.contextmanager
    def present(self) -> Iterator[None]:
        """Hold this copy's lock; a second copy of the same rank waits for the first."""
        if self.world == 1:
            yield
            return
        with exclusive_lock(self._lock(self.rank), "", wait=True):
            yield

    def wait_for(self, shards: Sequence[Shard]) -> None:
        """Wait until all shards are finished.

        Raises:
            InputError: shards are missing, and no other copy is running: it was never started, or it failed.
        """
        seen = time.monotonic()
        launched = any(os.environ.get(name) for name in LAUNCHERS)
        patience = LAUNCHED_PATIENCE_SECONDS if launched else PATIENCE_SECONDS
        while True:
            running = self._running()  # before the shards: a copy that ends now has finished its shards
            finished = sum(shard.folder.exists() for shard in shards)
            if finished == len(shards):
                return
            if running:
                seen = time.monotonic()
            elif time.monotonic() > seen + patience:
                raise InputError(
                    f"{self.folder}: {finished} of {len(shards)} shards are there; the others belong to "
                    f"other processes than this one (rank {self.rank} of {self.world}), and none of them is "
                    "running: run the command in all of them, or once without the variables of a launcher "
                    "(RANK and WORLD_SIZE, or SLURM_PROCID and SLURM_STEP_NUM_TASKS)"
                )
            time.sleep(POLL_SECONDS)

    def _running(self) -> bool:
        """Whether a copy of another rank runs."""
        return any(_is_held(self._lock(rank)) for rank in range(self.world) if rank != self.rank)

    def _lock(self, rank: int) -> Path:
        return self.folder / f".rank-{rank}.lock"


def _is_held(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        with exclusive_lock(path, "held"):
            return False
    except InputError:
        return True


def folder_stamp(folder: Path) -> tuple[int, int] | None:
    """Changes when the folder is replaced; None if there is none."""
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_ctime_ns
