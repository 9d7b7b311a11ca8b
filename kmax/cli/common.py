"""Options and text output that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run.")]
Verify = Annotated[
    bool, typer.Option("--verify", help="Run the model on a bundled image and print the result.")
]
Split = Annotated[
    str | None,
    typer.Option(
        metavar="SPLIT",
        help="Another split of the run's dataset, all its images; it needs no annotation.",
    ),
]
Recorded = Annotated[
    Path | None,
    typer.Option(
        metavar="NPZ",
        help="Outputs of the original, with its images, to compare with; a model that differs is not kept.",
    ),
]


def percent(value: float | None, sign: bool = False) -> str:
    """A fraction in percent; "n/a" for None."""
    return "n/a" if value is None else f"{100 * value:{'+' if sign else ''}.2f}"


def text_table(header: list[str], rows: list[list[str]]) -> str:
    """Columns of text: the first one left-aligned, the others right-aligned."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for row in [header, *rows]:
        numbers = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append("  ".join([row[0].ljust(widths[0]), *numbers]))
    return "\n".join(lines)
