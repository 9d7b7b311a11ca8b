"""Progress on stderr: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Result = TypeVar("Result")
SECONDS_BETWEEN_LINES = 10.0


def track(results: Iterator[Result], total: int | None, task: str) -> Iterator[Result]:
    """Pass `results` on, and tell how many of `total` (None: unknown) there were."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn(task), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            started = progress.add_task(task, total=total)
            for result in results:
                yield result
                progress.advance(started)
        return
    of = "" if total is None else f" of {total}"
    last = time.monotonic()
    for done, result in enumerate(results, start=1):
        yield result
        if time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{task}: {done}{of}", file=sys.stderr, flush=True)
