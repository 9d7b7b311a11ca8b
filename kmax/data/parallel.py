"""The same function over many items in worker processes, with progress, that leaves no process behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")
Result = TypeVar("Result")
SECONDS_BETWEEN_LINES = 10.0


def available_cpus() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_items(
    function: Callable[[Item], Result], items: Sequence[Item], task: str, workers: int | None = None
) -> Iterator[Result]:
    """Yield `function(item)` in the order of `items`.

    Args:
        function: picklable; with one worker it runs in this process.
        task: what the progress bar calls this.
        workers: processes; None: one per available core, at most one per 8 items.
    """
    if workers is None:
        workers = min(available_cpus(), max(1, len(items) // 8))
    if workers <= 1:
        yield from track(map(function, items), len(items), task)
        return
    context = multiprocessing.get_context("fork")
    alive, parent = os.pipe()  # reads as ended when this process is gone, however it went
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(alive, parent))
    try:
        chunk = max(1, min(16, len(items) // (4 * workers)))
        yield from track(pool.map(function, items, chunksize=chunk), len(items), task)
    finally:
        pool.shutdown(cancel_futures=True)
        os.close(parent)
        os.close(alive)


def _start_worker(alive: int, parent: int) -> None:
    """Leave Ctrl-C to the parent; end at once when the parent was killed, so that its locks are free."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.close(parent)

    def watch() -> None:
        os.read(alive, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def track(results: Iterator[Result], total: int, task: str) -> Iterator[Result]:
    """Pass `results` on, with progress on stderr: a bar on a terminal, a line now and then in a log."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn(task), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            yield from progress.track(results, total=total)
        return
    last = time.monotonic()
    for done, result in enumerate(results, start=1):
        yield result
        if time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{task}: {done} of {total}", file=sys.stderr, flush=True)
