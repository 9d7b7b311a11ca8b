"""The state of a training between attempts: what a checkpoint holds, how one is found and put in place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kmax import config
from kmax.errors import InputError
from kmax.files import exclusive_lock, remove_leftovers
from kmax.model.kmax import KMaX
from kmax.training import checkpoint
from kmax.training.history import History
from kmax.training.optimizer import make_optimizer, optimizer_flavour
from kmax.training.training_progress import say


@dataclass
class TrainingState:
    """All that changes from step to step.

    Attributes:
        model: the network.
        optimizer: with its moments.
        average: exponential moving average of the parameters, with the last buffers; None without one.
        history: rows of history.csv so far.
        step: updates done.
    """

    model: KMaX
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    history: History
    step: int

    def save(self, folder: Path, environment: dict[str, int | str]) -> None:
        """Write a checkpoint; `environment` is what the bits of the result depend on, beside the identity."""
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "history": self.history.state_dict(),
            "environment": environment,
        }
        checkpoint.save(folder, self.step, state)

    def restore(self, path: Path) -> dict[str, int | str]:
        """Continue from the checkpoint at `path`; returns its `environment`.

        Raises:
            InputError: the checkpoint is damaged, or of another version of the model.
        """
        state: dict[str, Any] = checkpoint.load(path)
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.history.load_state_dict(state["history"])
            self.step = state["step"]
            return dict(state["environment"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{path}: does not fit this version of the code ({reason}); train anew with --fresh"
            ) from error

    def published_model(self) -> KMaX:
        """The network whose weights are the result: the average where there is one."""
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
    """Keep a second copy of the same training from writing to `folder`.

    Raises:
        InputError: another process trains there.
    """
    held = f"{name}: this training is running already (it holds {folder / 'lock'}); wait for it or stop it"
    with exclusive_lock(folder / "lock", held):
        yield


def find_checkpoint(name: str, folder: Path, fresh: bool) -> Path | None:
    """The checkpoint to resume from, after tidying; says which are damaged and which other states there are.

    Args:
        name: of the run.
        folder: of its state, locked by the caller.
        fresh: remove the checkpoints, so that there is none.
    """
    remove_leftovers(folder, "checkpoint-*")
    if fresh:
        checkpoint.remove_all(folder)
    newest, warnings = checkpoint.newest(folder)
    for warning in warnings:
        say(f"warning: {warning}")
    others = [str(other) for other in sorted(folder.parent.glob("*")) if checkpoint.checkpoints(other)]
    if newest is None and (others := [other for other in others if other != str(folder)]):
        if not fresh:
            say(f"{name}: parameters, data or initial weights have changed: training anew in {folder}")
        say(f"{name}: the state of other parameters, data or weights is kept in {', '.join(others)}")
    return newest
