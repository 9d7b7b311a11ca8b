"""`kmax params ...`: parameter files."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

group = typer.Typer(help="Show, compare, check parameter files.")
Run = Annotated[str, typer.Argument(metavar="RUN", help="Name of a file in params/runs.")]


class Kind(StrEnum):
    """Kinds of parameter files."""

    run = "run"
    dataset = "dataset"
    weights = "weights"


def add_to(app: typer.Typer) -> None:
    """Add the group to the command."""
    app.add_typer(group, name="params")


@group.command()
def show(run: Run) -> None:
    """Print a run's parameters as the program reads them.

    \b
    Example: kmax params show shapes-tiny
    """
    from kmax.runs import parameters

    typer.echo(parameters.show(run), nl=False)


@group.command()
def diff(run: Run, other: Annotated[str, typer.Argument(metavar="OTHER", help="Another run.")]) -> None:
    """Print the parameters in which two runs differ.

    \b
    Example: kmax params diff shapes-smoke shapes-tiny
    """
    from kmax.runs import parameters

    for line in parameters.diff(run, other):
        typer.echo(line)


@group.command()
def check() -> None:
    """Read every file of params/."""
    from kmax.reporting.config import read_tables
    from kmax.runs import parameters

    typer.echo(f"{parameters.check(read_tables)} parameter files are right")


@group.command()
def schema(
    kind: Annotated[Kind, typer.Argument(help="Which kind of file.")] = Kind.run,
    out: Annotated[Path | None, typer.Option(help="File to write to; without it, print.")] = None,
) -> None:
    """Print the JSON schema of a kind of file.

    Editors check and complete with it.

    \b
    Example: kmax params schema run --out run.schema.json
    """
    from kmax.runs import parameters

    typer.echo(parameters.schema(kind.value, out))
