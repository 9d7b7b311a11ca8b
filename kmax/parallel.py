"""The same function over many items in worker processes, with progress, that leaves no process behind."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

from kmax.machine import available_cpus
from kmax.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_items(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    task: str,
    workers: int | None = None,
    total: int | None = None,
) -> Iterator[Result]:
    """Yield `function(item)` in the order of `items`, which are taken as they are needed.

    Args:
        function: picklable; with one worker it runs in this process.
        task: what the progress bar calls this.
        workers: processes; None: one per available core, at most one per 8 items.
        total: number of items, where `items` has no length.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if workers is None:
        workers = min(available_cpus(), max(1, total // 8 if total is not None else available_cpus()))
    if workers <= 1:
        yield from track(map(function, items), total, task)
        return
    context = multiprocessing.get_context("fork")
    alive, parent = os.pipe()  # reads as ended when this process is gone, however it went
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(alive, parent))
    try:
        chunk = max(1, min(16, (total or 64) // (4 * workers)))
        yield from track(_in_order(pool, function, iter(items), chunk, 4 * workers), total, task)
    finally:
        pool.shutdown(cancel_futures=True)
        os.close(parent)
        os.close(alive)


def _in_order(
    pool: ProcessPoolExecutor,
    function: Callable[[Item], Result],
    items: Iterator[Item],
    chunk: int,
    most: int,
) -> Iterator[Result]:
    """Results in order, with at most so many chunks under way: neither items nor results pile up."""
    waiting: deque[Future[list[Result]]] = deque()
    while True:
        while len(waiting) < most and (taken := list(itertools.islice(items, chunk))):
            waiting.append(pool.submit(_apply, function, taken))
        if not waiting:
            return
        yield from waiting.popleft().result()


def _apply(function: Callable[[Item], Result], items: list[Item]) -> list[Result]:
    return [function(item) for item in items]


def _start_worker(alive: int, parent: int) -> None:
    """Leave Ctrl-C to the parent; end at once when the parent was killed, so that its locks are free."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.close(parent)

    def watch() -> None:
        os.read(alive, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
