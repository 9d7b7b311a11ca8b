"""Child processes that never outlive their parent, and the words for how they ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from multiprocessing import util
from multiprocessing.process import BaseProcess
from pathlib import Path

from kmax.errors import InputError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
PR_SET_PDEATHSIG = 1
POLL_SECONDS = 1.0
JOIN_SECONDS = 5.0


def end_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Make the system send signal `number` to this process as soon as its parent ends, for any reason.

    On Linux the kernel does it, so that even a stopped process ends. Elsewhere a thread asks every second.

    Args:
        parent: process id of the parent, taken before this process was started.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # it ended before the call
            os.kill(os.getpid(), number)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        os.kill(os.getpid(), number)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Hold back SIGINT, SIGTERM and SIGUSR1 until the end of the block.

    A child that is forked inside never runs a handler of its parent: it receives the signals when it has
    installed its own (`release_signals`).
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def release_signals(ignored: Collection[int]) -> None:
    """In a child: ignore some of the signals, let the others end the process, and stop holding them back."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
    release_held_signals()


def release_held_signals() -> None:
    """In a child that has installed its handlers: receive the signals that were held back at its start."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def kill_at_exit(processes: list[BaseProcess]) -> util.Finalize:
    """Kill the processes of a list, which may still grow, when this process exits without having done so.

    At exit, multiprocessing waits for all children without limit; this runs before it.
    """
    return util.Finalize(None, kill, args=(processes,), exitpriority=100)


def kill(processes: Iterable[BaseProcess]) -> None:
    """Kill processes, stopped ones too, and collect them."""
    processes = list(processes)
    for process in processes:
        if process.pid is not None:
            process.kill()
    end = time.monotonic() + JOIN_SECONDS
    for process in processes:
        if process.pid is not None:
            process.join(max(0.0, end - time.monotonic()))


def is_stopped(pid: int | None) -> bool:
    """Whether a process was stopped by a signal (SIGSTOP) and not continued; False if it is unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[:1] == ["T"]


def death(what: str, process: BaseProcess, advice: str) -> Exception:
    """The error for a child process that ended before it had finished its work.

    Args:
        what: such as "a worker process".
        process: has ended.
        advice: what the user can do if memory is the cause.
    """
    code = process.exitcode or 0
    if code >= 0:
        return RuntimeError(f"{what} (pid {process.pid}) ended with exit code {code} and without a report")
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if name in ("SIGKILL", "SIGBUS"):
        advice = f"the system does this when memory is out: {advice}"
    else:
        advice = "run the command again"
    return InputError(f"{what} (pid {process.pid}) was ended by {name}; {advice}")
