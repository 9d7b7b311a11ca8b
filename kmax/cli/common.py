"""Options and text output that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run.")]
Verify = Annotated[
    bool, typer.Option("--verify", help="Run the model on a bundled image and print a summary of its output.")
]
Split = Annotated[
    str | None,
    typer.Option(
        metavar="SPLIT",
        help="Use all images of another split of the dataset; it needs no annotation.",
    ),
]
Recorded = Annotated[
    Path | None,
    typer.Option(
        metavar="NPZ",
        help="Recorded outputs of the original to compare with; a model that differs is removed.",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Also replace existing files that this command did not write.")
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
