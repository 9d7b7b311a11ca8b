"""Stopping: a time budget, the end of the SLURM job, or a signal.

All have the same effect: the training finishes the step, writes a checkpoint and exits with code 75, so that
the engine calls it again. After Ctrl-C the exit code is 130; a second Ctrl-C exits at once.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

from kmax.machine import environment_seconds, slurm_job_end

SLURM_MARGIN = 60.0  # seconds before the job's end, for the checkpoint and a slow shared file system
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@dataclass(frozen=True)
class Budget:
    """The time by which this attempt must end.

    Attributes:
        end: in seconds since the epoch; None without a limit.
        reason: the origin of the limit, for messages.
    """

    end: float | None
    reason: str

    def over(self, needed: float = 0.0) -> bool:
        """Whether fewer than `needed` seconds are left."""
        return self.end is not None and time.time() + needed >= self.end


def read_budget(seconds: float | None, start: float | None = None) -> Budget:
    """The earlier of `seconds` (else KMAX_TIME_BUDGET) after `start` and a minute before the SLURM job's end.

    Raises:
        InputError: KMAX_TIME_BUDGET is not a number of seconds.
    """
    start = time.time() if start is None else start
    limits: list[tuple[float, str]] = []
    if seconds is None:
        seconds = environment_seconds("KMAX_TIME_BUDGET")
    if seconds is not None:
        limits.append((start + seconds, f"time budget of {seconds:g} s"))
    if (job_end := slurm_job_end()) is not None:
        limits.append((job_end - SLURM_MARGIN, "SLURM job's time limit"))
    end, reason = min(limits, default=(None, ""))
    return Budget(end, reason)


@dataclass
class Stop:
    """Signals received so far."""

    out_of_time: bool = False
    interrupted: bool = False


@contextlib.contextmanager
def stop_signals(forward: Callable[[int], None] | None = None, patient: bool = False) -> Iterator[Stop]:
    """Record SIGTERM, SIGUSR1 and Ctrl-C instead of terminating, and restore the handlers afterwards.

    Args:
        forward: called with every signal, to forward it to the ranks.
        patient: also record a second Ctrl-C, which otherwise raises KeyboardInterrupt at once.
    """
    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if stop.interrupted and not patient:
                raise KeyboardInterrupt
            stop.interrupted = True
        else:
            stop.out_of_time = True
        if forward is not None:
            forward(number)

    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread can set handlers
        return
    previous = {number: signal.signal(number, handle) for number in (*STOP_SIGNALS, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
