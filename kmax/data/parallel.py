"""The same function over many items in worker processes, with progress, that leaves no process behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from kmax.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")


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
