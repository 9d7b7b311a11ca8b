"""`kmax pipelines`, `kmax record`, `kmax restore`, `kmax doctor`: the engines around the library."""

from __future__ import annotations

from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    for verb in (pipelines, record, restore, doctor):
        app.command()(verb)


def pipelines(
    check: Annotated[bool, typer.Option("--check", help="Only say whether they are current.")] = False,
) -> None:
    """Write the DVC pipeline of every family.

    From params/runs and workflow/dvc.yaml.template: dvc.yaml for the default family, and
    workflow/pipelines/FAMILY/dvc.yaml for the others. Call it after adding a run or a family.

    \b
    Example: kmax pipelines --check
    """
    from kmax.engines import check_pipelines, write_pipelines

    if check:
        typer.echo(f"{check_pipelines()} pipelines are current")
        return
    for path in write_pipelines():
        typer.echo(path)


def record(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Families or runs; without any, the default family."),
    ] = None,
) -> None:
    """Commit what is finished to DVC.

    Afterwards `dvc repro` has nothing to do. Refuses unless `snakemake -n` says that nothing is left to do.

    \b
    Examples:
      kmax record
      kmax record coco_mini
    """
    from kmax import stages

    typer.echo(stages.record(names or []))


def restore() -> None:
    """Pull what is recorded in DVC.

    Afterwards neither `dvc repro` nor `snakemake` has anything to do.
    """
    from kmax import stages

    typer.echo(stages.restore())


def doctor(
    strict: Annotated[bool, typer.Option("--strict", help="Count optional parts as needed.")] = False,
) -> None:
    """Say what this machine lacks.

    And how to get it. The exit code is 2 if something needed is missing.
    """
    from kmax.stages.doctor import examine

    report = examine()
    for line in report.lines():
        typer.echo(line)
    raise typer.Exit(0 if report.complete(strict) else 2)
