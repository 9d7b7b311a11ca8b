"""`kmax submission ...`: archives for test servers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kmax.cli.common import Overwrite, Run, Split

group = typer.Typer(help="Archives for the test servers of datasets.")


class CocoTask(StrEnum):
    """Tasks of COCO's server."""

    PANOPTIC = "panoptic"
    INSTANCES = "instances"


class CityscapesTask(StrEnum):
    """Tasks of Cityscapes' server."""

    PANOPTIC = "panoptic"
    INSTANCES = "instances"
    SEMANTIC = "semantic"


Out = Annotated[Path, typer.Option(metavar="FILE.zip", help="Archive to write.")]


def add_to(app: typer.Typer) -> None:
    """Add the group to the command."""
    app.add_typer(group, name="submission")


@group.command()
def coco(
    run: Run,
    out: Out,
    task: Annotated[CocoTask, typer.Option(help="Task of the server.")] = CocoTask.PANOPTIC,
    algorithm: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the algorithm on the server; default: the run's."),
    ] = None,
    split: Split = None,
    overwrite: Overwrite = False,
) -> None:
    """Pack predictions for COCO's server.

    All images of the split must have predictions; every file is checked first. Prints the file name that the
    server expects if FILE.zip differs from it.

    \b
    Example:
      kmax submission coco coco-resnet50-tfzoo --split test-dev
        --out panoptic_test-dev2017_coco-resnet50-tfzoo_results.zip
    """
    from kmax import stages

    expected = stages.submit_coco(
        run, out, task=task.value, split=split, algorithm=algorithm, overwrite=overwrite
    )
    if out.name != expected:
        typer.echo(f"the server expects the file name {expected}")
    typer.echo(out)


@group.command()
def cityscapes(
    run: Run,
    out: Out,
    task: Annotated[CityscapesTask, typer.Option(help="Task of the server.")] = CityscapesTask.PANOPTIC,
    split: Split = None,
    overwrite: Overwrite = False,
) -> None:
    """Pack predictions for Cityscapes' server.

    All frames of the split must have predictions; every file is checked first.

    \b
    Example:
      kmax submission cityscapes cityscapes-resnet50-tfzoo --split test --task semantic --out labels.zip
    """
    from kmax import stages

    stages.submit_cityscapes(run, out, task=task.value, split=split, overwrite=overwrite)
    typer.echo(out)
