"""Apply a function to many items in worker processes, with progress; workers end with their parent."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from functools import partial
from typing import Generic, TypeVar

from kmax.errors import InputError, InputWarnings
from kmax.machine import available_cpus, environment_count
from kmax.processes.worker_processes import Crew
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
        function: its second argument collects the warnings of this item.
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
    """Turns the `InputError` of a function into lines."""

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
        function: with one worker it runs in this process; its results are picklable.
        task: label of the progress bar.
        workers: processes; None: one per available core, at most KMAX_WORKERS and one per 8 items.
        total: number of items, if `items` has no length.
        first_here: process the first item before the workers start, so that they share its data.

    Raises:
        InputError: a worker process was killed, such as by the system when memory is out.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if workers is None:
        most = environment_count("KMAX_WORKERS")
        most = available_cpus() if most is None else min(most, available_cpus())
        workers = min(most, max(1, total // 8 if total is not None else most))
    if workers <= 1:
        yield from track(map(function, items), total, task)
        return
    remaining = iter(items)
    first = [function(item) for item in itertools.islice(remaining, 1)] if first_here else []
    size = max(1, min(16, (total or 64) // (4 * workers)))
    chunks = iter(lambda: list(itertools.islice(remaining, size)), [])
    crew: Crew[list[Item], list[Result]] = Crew(partial(_apply, function), workers, ahead=4)
    with contextlib.closing(crew.results(chunks)) as results:
        yield from track(itertools.chain(first, itertools.chain.from_iterable(results)), total, task)


def _apply(function: Callable[[Item], Result], items: list[Item]) -> list[Result]:
    return [function(item) for item in items]
