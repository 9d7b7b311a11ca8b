"""`kmax params ...`: parameter files."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kmax.cli.common import Overwrite
from kmax.urls import without_credentials

group = typer.Typer(help="Show, compare and check parameter files.")
Run = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run.")]


class Kind(StrEnum):
    """Kinds of parameter files."""

    family = "family"
    run = "run"
    dataset = "dataset"
    weights = "weights"


def add_to(app: typer.Typer) -> None:
    """Add the group to the command."""
    app.add_typer(group, name="params")


@group.command()
def show(run: Run) -> None:
    """Print all parameters of a run, with what it inherits in its family's file.

    \b
    Example: kmax params show shapes-tiny
    """
    from kmax.runs.parameters import run_as_yaml

    typer.echo(without_credentials(run_as_yaml(run)), nl=False)


@group.command()
def diff(
    run: Run, other: Annotated[str, typer.Argument(metavar="OTHER", help="Run to compare with.")]
) -> None:
    """Print the parameters in which two runs differ.

    \b
    Example: kmax params diff shapes-smoke shapes-tiny
    """
    from kmax.runs.parameters import differences

    for line in differences(run, other):
        typer.echo(without_credentials(line))


@group.command()
def check() -> None:
    """Read and check every file in params/."""
    from kmax import paths
    from kmax.reporting.config import read_tables
    from kmax.runs import parameters

    # The reader of the tables reads the reported figures, too.
    others = {paths.TABLES_FILE: read_tables, paths.REFERENCE_FILE: lambda: None}
    typer.echo(f"{parameters.check(others)} parameter files are valid")


@group.command()
def schema(
    kind: Annotated[Kind, typer.Argument(help="Kind of parameter file.")] = Kind.family,
    out: Annotated[Path | None, typer.Option(help="File to write to; default: standard output.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Print the JSON schema of a kind of file.

    Editors use it for validation and completion.

    \b
    Example: kmax params schema family --out family.schema.json
    """
    from kmax import files, paths
    from kmax.outputs import json_object, require_outputs
    from kmax.runs import parameters

    text = parameters.schema(kind.value)
    if out is not None:
        title = json.loads(text)["title"]
        require_outputs(
            {out: lambda path: json_object(path).get("title") == title}, [paths.PARAMS], overwrite
        )
        files.write_text(out, text + "\n")
    typer.echo(text if out is None else out)
