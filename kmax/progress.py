"""Progress on stderr: a bar on a terminal, occasional lines in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from kmax.display import one_line

Result = TypeVar("Result")
SECONDS_BETWEEN_LINES = 10.0


def _description() -> TextColumn:
    """The name of a task; square brackets in it are no markup."""
    return TextColumn("{task.description}", markup=False)


def track(results: Iterator[Result], total: int | None, task: str) -> Iterator[Result]:
    """Yield `results`, and show how many of `total` (None: unknown) were yielded."""
    console, task = Console(stderr=True), one_line(task)
    if console.is_terminal:
        columns = (_description(), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
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


class Transfers:
    """Downloads of several threads: a bar for each on a terminal, occasional lines in a log."""

    def __init__(self) -> None:
        columns = (
            _description(),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        console = Console(stderr=True)
        self._bars = Progress(*columns, console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    @contextlib.contextmanager
    def transfer(self, name: str) -> Iterator[Transfer]:
        """The progress of one file; its bar disappears at the end."""
        name = one_line(name)
        if self._bars is None:
            yield Transfer(name, None, None)
            return
        task = self._bars.add_task(name, total=None, start=False)
        try:
            yield Transfer(name, self._bars, task)
        finally:
            self._bars.remove_task(task)


class Transfer:
    """The progress of one file."""

    def __init__(self, name: str, bars: Progress | None, task: TaskID | None) -> None:
        self._name, self._bars, self._task = name, bars, task
        self._total: int | None = None
        self._done = self._done_at_start = 0
        self._last = self._started = time.monotonic()

    def begin(self, total: int | None, done: int) -> None:
        """Start with `done` bytes present out of `total` (None: unknown)."""
        self._total, self._done, self._done_at_start = total, done, done
        self._last = self._started = time.monotonic()
        if self._bars is not None and self._task is not None:
            self._bars.start_task(self._task)
            self._bars.update(self._task, total=total, completed=done)

    def advance(self, count: int) -> None:
        """Count `count` more bytes."""
        self._done += count
        if self._bars is not None and self._task is not None:
            self._bars.advance(self._task, count)
        elif time.monotonic() - self._last > SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            speed = (self._done - self._done_at_start) / (self._last - self._started)
            of = left = ""
            if self._total is not None:
                of = f" of {self._total / 1e6:.0f}"
                left = f", {max(0, self._total - self._done) / max(speed, 1.0) / 60:.0f} min left"
            self.say(f"{self._name}: {self._done / 1e6:.0f}{of} MB, {speed / 1e6:.1f} MB/s{left}")

    def say(self, line: str) -> None:
        """Print a line on stderr without disturbing the bars."""
        if self._bars is not None:
            self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            sys.stderr.write(f"{line}\n")  # in one call, since several threads print
            sys.stderr.flush()
