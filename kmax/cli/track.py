"""`kmax track ...`: recorded events and MLflow."""

from __future__ import annotations

from typing import Annotated

import typer

group = typer.Typer(help="Recorded events, and MLflow.")


def add_to(app: typer.Typer) -> None:
    """Add the group to the command."""
    app.add_typer(group, name="track")


@group.command()
def sync(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Runs; without any, all.")
    ] = None,
) -> None:
    """Send MLflow what it lacks.

    Events are written to files first; this sends those that a missing server lost.

    \b
    Example: MLFLOW_TRACKING_URI=http://127.0.0.1:5000 kmax track sync
    """
    from kmax import stages

    typer.echo(stages.track_sync(runs or []))


@group.command()
def ui(port: Annotated[int, typer.Option(help="Port on 127.0.0.1.", min=1, max=65535)] = 5000) -> None:
    """Open the MLflow UI on 127.0.0.1; Ctrl-C ends it."""
    from kmax import stages

    stages.track_ui(port)
