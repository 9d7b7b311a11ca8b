"""The state of a training, and its checkpoints.

Checkpoints are written atomically, the newest two are kept, and a corrupt one is skipped. A checkpoint is one
file of `torch.save`, read with `weights_only=True` (tensors and plain values, no code). It is a ZIP archive
whose entries carry checksums; they are verified here because torch does not verify them.
"""

from __future__ import annotations

import contextlib
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kmax import config
from kmax.errors import InputError
from kmax.files import atomic_path, exclusive_lock, remove_leftovers
from kmax.model.kmax import KMaX
from kmax.shortages import shortage
from kmax.training.optimizer import make_optimizer, optimizer_flavour
from kmax.training.training_log import History, log

KEPT = 2
_NAME = re.compile(r"checkpoint-(\d{8})\.pt")


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in `folder`, newest first."""
    return sorted(
        (path for path in folder.glob("checkpoint-*.pt") if _NAME.fullmatch(path.name)), reverse=True
    )


def step_of(path: Path) -> int:
    """Number of updates before the checkpoint, from its name."""
    match = _NAME.fullmatch(path.name)
    assert match is not None, path
    return int(match.group(1))


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write the state after `step` updates, then remove all but the newest two checkpoints.

    Raises:
        InputError: the folder cannot be written or the disk is full; older checkpoints stay.
    """
    path = folder / f"checkpoint-{step:08d}.pt"
    with atomic_path(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # how torch reports a failed write
            raise InputError(
                f"{path}: cannot be written; is the disk full? ({str(error).splitlines()[0]})"
            ) from error
    for old in checkpoints(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def load(path: Path) -> dict[str, Any]:
    """Read one checkpoint onto the CPU after verifying its checksums.

    Raises:
        InputError: corrupt, or not a checkpoint.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            corrupt = archive.testzip()
        if corrupt is not None:
            raise InputError(f"{path}: corrupt checkpoint: wrong checksum of {corrupt}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib and torch raise many types on garbage
        if shortage(error):
            raise
        raise InputError(
            f"{path}: corrupt checkpoint: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from error
    if not isinstance(state, dict) or state.get("step") != step_of(path):
        raise InputError(f"{path}: corrupt checkpoint: its step differs from the one in its name")
    return state


def newest(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest intact checkpoint (None if the folder has none), and one warning per corrupt newer one.

    Raises:
        InputError: every checkpoint is corrupt.
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
        raise InputError([*faults, f"{folder}: no checkpoint can be read; restart with --fresh"])
    return None, []


def remove_all(folder: Path) -> None:
    """Remove every checkpoint, to start again."""
    for path in checkpoints(folder):
        path.unlink(missing_ok=True)


@dataclass
class TrainingState:
    """Everything that changes from step to step; samples and random numbers are functions of the step.

    Attributes:
        model: the network.
        optimizer: with its moments.
        average: exponential moving average of the parameters, with the latest buffers; None without one.
        history: the losses so far.
        step: number of updates done.
    """

    model: KMaX
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    history: History
    step: int

    def save(self, folder: Path, environment: dict[str, int | str]) -> None:
        """Write a checkpoint to `folder`.

        Args:
            environment: facts other than the run's identity on which the bits of the result depend.
        """
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "history": self.history.state_dict(),
            "environment": environment,
        }
        save(folder, self.step, state)

    def restore(self, path: Path) -> dict[str, int | str]:
        """Continue from the checkpoint at `path`, and return its `environment`.

        Raises:
            InputError: the checkpoint is corrupt, or was written by another version of the model.
        """
        state: dict[str, Any] = load(path)
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.history.load_state_dict(state["history"])
            self.step = state["step"]
            return dict(state["environment"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            if shortage(error):
                raise
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{path}: does not fit this version of the code ({reason}); restart with --fresh"
            ) from error

    def published_model(self) -> KMaX:
        """The network whose weights are the result: the average, if there is one."""
        return self.model if self.average is None else cast(KMaX, self.average.module)


def initial_state(run: config.Run, model: KMaX) -> TrainingState:
    """The state before the first step of `run`."""
    assert run.train is not None
    decay = run.train.ema_decay
    average = None
    if decay is not None:
        averaging = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        average = AveragedModel(model, multi_avg_fn=averaging)
    return TrainingState(
        model=model,
        optimizer=make_optimizer(model, run.train, optimizer_flavour(run.train, run.model.flavour)),
        average=average,
        history=History(run.train.log_every, run.train.steps),
        step=0,
    )


@contextlib.contextmanager
def only_copy(name: str, folder: Path) -> Iterator[None]:
    """Lock `folder` against a second copy of the same training.

    Raises:
        InputError: another process holds the lock.
    """
    held = f"{name}: this training is already running (it holds {folder / 'lock'}); wait for it or stop it"
    with exclusive_lock(folder / "lock", held):
        yield


def find_checkpoint(name: str, folder: Path, fresh: bool) -> Path | None:
    """The checkpoint to resume from, or None; corrupt checkpoints and other states of the run are logged.

    Args:
        name: of the run.
        folder: the run's state folder, locked by the caller.
        fresh: remove the checkpoints first.
    """
    remove_leftovers(folder, "checkpoint-*")
    if fresh:
        remove_all(folder)
    found, warnings = newest(folder)
    for warning in warnings:
        log(f"warning: {warning}")
    others = [str(other) for other in sorted(folder.parent.glob("*")) if checkpoints(other)]
    if found is None and (others := [other for other in others if other != str(folder)]):
        if not fresh:
            log(f"{name}: parameters, data or initial weights have changed; training restarts in {folder}")
        log(f"{name}: the state for the previous parameters, data or weights is kept in {', '.join(others)}")
    return found
