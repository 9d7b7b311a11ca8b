"""Apply a function to many items in worker processes, with progress; workers end with their parent."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Generic, TypeVar

from kmax.errors import InputError, InputWarnings
from kmax.machine import available_cpus
from kmax.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_checked(
    function: Callable[[Item, InputWarnings], Result],
    items: Sequence[Item],
    task: str,
    workers: int | None = None,
    *,
    warnings: InputWarnings | None = None,
    strict: bool = False,
    first_here: bool = False,
) -> list[Result]:
    """The results of `function(item, warnings)` for all items, or the errors of all of them.

    Args:
        function: picklable; its second argument collects the warnings of this item.
        task, workers, first_here: as for `map_items`.
        warnings: receives the warnings of all items, in order, after the existing ones.
        strict: treat all of `warnings` as errors.

    Raises:
        InputError: the lines of the `InputError` of each item; with `strict`, the warnings, too.
    """
    warnings = InputWarnings() if warnings is None else warnings
    results: list[Result] = []
    faults: list[str] = []
    checked = _Checked(function)
    for result, found, lines in map_items(checked, items, task, workers, first_here=first_here):
        results.extend(result)
        warnings.merge(found)
        faults.extend(lines)
    if strict:
        faults.extend(warnings.faults())
    if faults:
        raise InputError(faults)
    return results


class _Checked(Generic[Item, Result]):
    """Turns the `InputError` of a function into lines; picklable if the function is."""

    def __init__(self, function: Callable[[Item, InputWarnings], Result]) -> None:
        self.function = function

    def __call__(self, item: Item) -> tuple[list[Result], InputWarnings, list[str]]:
        """The result (none after an error), the warnings, and the lines of the error."""
        warnings = InputWarnings()
        try:
            return [self.function(item, warnings)], warnings, []
        except InputError as error:
            return [], warnings, error.faults


def map_items(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    task: str,
    workers: int | None = None,
    total: int | None = None,
    first_here: bool = False,
) -> Iterator[Result]:
    """Yield `function(item)` in the order of `items`, which are consumed lazily.

    Args:
        function: picklable; with one worker it runs in this process.
        task: label of the progress bar.
        workers: processes; None: one per available core, at most one per 8 items.
        total: number of items, if `items` has no length.
        first_here: process the first item before the workers start, so that they share its data.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if workers is None:
        workers = min(available_cpus(), max(1, total // 8 if total is not None else available_cpus()))
    if workers <= 1:
        yield from track(map(function, items), total, task)
        return
    remaining = iter(items)
    first = [function(item) for item in itertools.islice(remaining, 1)] if first_here else []
    context = multiprocessing.get_context("fork")
    alive, parent = os.pipe()  # reading end reports end of file once this process is gone, for any reason
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(alive, parent))
    try:
        chunk = max(1, min(16, (total or 64) // (4 * workers)))
        results = _in_order(pool, function, remaining, chunk, 4 * workers)
        yield from track(itertools.chain(first, results), total, task)
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
    """Results in order, with at most `most` chunks in flight, so that neither items nor results pile up."""
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
    """Leave Ctrl-C to the parent; exit as soon as the parent is gone, so that its locks are released."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.close(parent)

    def watch() -> None:
        os.read(alive, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
