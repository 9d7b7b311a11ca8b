"""`kmax submission ...`: archives for test servers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kmax.cli.options import Split

group = typer.Typer(help="Archives for the test servers of datasets.")


class CocoTask(StrEnum):
    """What COCO's server scores."""

    PANOPTIC = "panoptic"
    INSTANCES = "instances"


class CityscapesTask(StrEnum):
    """What Cityscapes' server scores."""

    PANOPTIC = "panoptic"
    INSTANCES = "instances"
    SEMANTIC = "semantic"


Run = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run.")]
Out = Annotated[Path, typer.Option(metavar="FILE.zip", help="Archive to write.")]


def add_to(app: typer.Typer) -> None:
    """Add the group to the command."""
    app.add_typer(group, name="submission")


@group.command()
def coco(
    run: Run,
    out: Out,
    task: Annotated[CocoTask, typer.Option(help="Which of the server's tasks.")] = CocoTask.PANOPTIC,
    algorithm: Annotated[
        str | None, typer.Option(metavar="NAME", help="The algorithm's name there; default: the run's.")
    ] = None,
    split: Split = None,
) -> None:
    """Pack predictions for COCO's server.

    All images of the split must be there; every file is checked first. Tells the name that the server wants
    where FILE.zip has another.

    \b
    Example:
      kmax submission coco coco-resnet50-tfzoo --split test-dev
        --out panoptic_test-dev2017_coco-resnet50-tfzoo_results.zip
    """
    from kmax.stages.submission import submission

    typer.echo(submission("coco", run, out, task=task.value, split=split, algorithm=algorithm))


@group.command()
def cityscapes(
    run: Run,
    out: Out,
    task: Annotated[
        CityscapesTask, typer.Option(help="Which of the server's tasks.")
    ] = CityscapesTask.PANOPTIC,
    split: Split = None,
) -> None:
    """Pack predictions for Cityscapes' server.

    All frames of the split must be there; every file is checked first.

    \b
    Example:
      kmax submission cityscapes cityscapes-resnet50-tfzoo --split test --task semantic --out labels.zip
    """
    from kmax.stages.submission import submission

    typer.echo(submission("cityscapes", run, out, task=task.value, split=split))
