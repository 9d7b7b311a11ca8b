"""Losses over steps, as `history.csv` tells them: a row holds means over the steps since the row before."""

from __future__ import annotations

import csv
import io
from typing import Any


class History:
    """Rows of the history, and the sums of the row that is being made.

    Args:
        every: steps between rows.
        steps: of the whole training; the last one always makes a row.
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
        """Add one step; the row if it completes one.

        Args:
            done: steps done, this one included.
            rate: base learning rate of this step.
            terms: weighted loss terms; their sum is the loss.
            seconds: that the step took.
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
        """All that a resumption needs."""
        return {"rows": self.rows, "sums": self.sums, "count": self.count, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.rows, self.sums = list(state["rows"]), dict(state["sums"])
        self.count, self.seconds = int(state["count"]), float(state["seconds"])
