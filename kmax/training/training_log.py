"""Records of a training while it runs: rows of history.csv, and progress on standard error."""

from __future__ import annotations

import csv
import io
import sys
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

LINE_SECONDS = 10.0  # between log lines


def log(message: str) -> None:
    """Print one plain line to standard error at once."""
    print(message, file=sys.stderr, flush=True)


class History:
    """The rows of `history.csv`: each holds mean losses over the steps since the previous row.

    Args:
        every: steps between rows.
        steps: of the whole training; the last one always completes a row.
    """

    def __init__(self, every: int, steps: int) -> None:
        self.every, self.steps = every, steps
        self.rows: list[dict[str, float]] = []
        self.sums: dict[str, float] = {}
        self.count = 0
        self.seconds = 0.0

    def step(
        self, done: int, rate: float, terms: dict[str, float], seconds: float
    ) -> dict[str, float] | None:
        """Add one step.

        Args:
            done: steps done, including this one.
            rate: base learning rate of the step.
            terms: weighted loss terms; their sum is the loss.
            seconds: duration of the step.

        Returns:
            The row that this step completes, None if it completes none.
        """
        self.seconds += seconds
        self.count += 1
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        if done % self.every and done != self.steps:
            return None
        means = {name: value / self.count for name, value in self.sums.items()}
        row = {"step": done, "learning_rate": rate, "loss/total": sum(means.values())}
        row |= {f"loss/{name}": value for name, value in means.items()}
        row["seconds"] = round(self.seconds, 3)
        self.rows.append(row)
        self.sums, self.count = {}, 0
        return row

    def csv(self) -> str:
        """The rows as CSV: step, learning_rate, loss/total, loss/<term>..., seconds."""
        text = io.StringIO()
        columns = list(self.rows[0]) if self.rows else ["step", "learning_rate", "loss/total", "seconds"]
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {name: f"{value:.7g}" if isinstance(value, float) else value for name, value in row.items()}
            for row in self.rows
        )
        return text.getvalue()

    def state_dict(self) -> dict[str, Any]:
        """The state needed to resume."""
        return {"rows": self.rows, "sums": self.sums, "count": self.count, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.rows, self.sums = list(state["rows"]), dict(state["sums"])
        self.count, self.seconds = int(state["count"]), float(state["seconds"])


class TrainingProgress:
    """Steps done, loss, images per second and time left: a bar on a terminal, plain lines in a log.

    Args:
        name: of the run.
        start: steps done by earlier attempts.
        steps: of the whole training.
        images_per_step: global batch size.
        shown: False for ranks other than 0, which print nothing.
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
        """Report that `done` steps are done, and the loss of the last one."""
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
            log(f"{self.name}: {state}")
            self.last_line = now


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
