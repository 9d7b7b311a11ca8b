"""`kmax compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[str, typer.Argument(metavar="RUN", help="Name of an evaluated run.")]


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command()(compare)


def compare(
    first: Run,
    second: Run,
    out: Annotated[Path | None, typer.Option(help="JSON file to write the figures to.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Resamples of the images.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the resamples.")] = 0,
) -> None:
    """Compare two runs on the same images.

    Differences of PQ, SQ, RQ and mean IoU (second minus first) with 95% intervals by a paired bootstrap over
    images, and two-sided p-values by exchanging the runs' results image by image. Both runs must be evaluated
    on the same split and ground truth by the same evaluator.

    \b
    Example:
      kmax compare shapes-tiny shapes-tiny-s1 --out comparison.json
    """
    from kmax.stages.compare import compare as compare_runs

    typer.echo(compare_runs(first, second, out=out, samples=samples, seed=seed))
