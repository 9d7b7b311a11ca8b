"""What a training shows while it runs: a bar on a terminal, plain lines in a log. On standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

LINE_SECONDS = 10.0  # between lines of a log


def say(message: str) -> None:
    """Print one plain line at once."""
    print(message, file=sys.stderr, flush=True)


class TrainingProgress:
    """Steps done, loss, images a second and time left.

    Args:
        name: of the run.
        start: steps done by earlier attempts.
        steps: of the whole training.
        images_per_step: global batch.
        shown: false for ranks other than 0, which stay silent.
    """

    def __init__(self, name: str, start: int, steps: int, images_per_step: int, shown: bool = True) -> None:
        self.name, self.start, self.steps, self.images_per_step = name, start, steps, images_per_step
        self.shown = shown
        self.begun = time.monotonic()
        self.last_line = -LINE_SECONDS
        console = Console(stderr=True)
        self.bar: Progress | None = None
        if console.is_terminal and shown:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
            self.bar = Progress(*columns, console=console)
            self.task = self.bar.add_task(name, completed=start, total=steps, state="")

    def __enter__(self) -> Self:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    def step(self, done: int, loss: float) -> None:
        """Tell that `done` steps are done, the last one with this loss."""
        if not self.shown:
            return
        now = time.monotonic()
        seconds = (now - self.begun) / max(done - self.start, 1)
        state = (
            f"step {done}/{self.steps}, loss {loss:.3f}, {self.images_per_step / seconds:.1f} images/s, "
            f"{_clock((self.steps - done) * seconds)} left"
        )
        if self.bar:
            self.bar.update(self.task, completed=done, state=state)
        elif now - self.last_line >= LINE_SECONDS or done == self.steps:
            say(f"{self.name}: {state}")
            self.last_line = now


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
