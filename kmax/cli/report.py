"""`kmax report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command()(report)


def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Runs or families; without any, the default selection."),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Compare the tables with a published set; exit code 2 if they differ."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder to write to; without it reports/ for the default family, "
            "reports/families/NAME for others.",
        ),
    ] = None,
    from_mlflow: Annotated[
        bool, typer.Option("--from-mlflow", help="Read the measured figures from MLflow, not from files.")
    ] = False,
) -> None:
    """Build tables, figures and the site.

    Reads what was measured; writes tables/, figures/ and site/ below the folder. The report on the default
    family lies in reports/, that on other runs or families in reports/families/NAME (NAME+NAME for several).

    \b
    Examples:
      kmax report
      kmax report shapes-smoke
      kmax report --check published
    """
    from kmax import stages

    typer.echo(stages.report(runs or [], out=out, check=check, from_mlflow=from_mlflow))
