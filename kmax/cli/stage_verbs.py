"""The stages of a run: `kmax weights fetch`, `train`, `port`, `predict`, `evaluate`, `benchmark`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from kmax.cli.common import Overwrite, Recorded, Run, Split, Verify

weights = typer.Typer(help="Checkpoints to start from (params/weights.yaml).")


def add_to(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    app.add_typer(weights, name="weights")
    for verb in (train, port, predict, evaluate, benchmark):
        app.command()(verb)


@weights.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name in params/weights.yaml.")],
    overwrite: Overwrite = False,
) -> None:
    """Fetch a checkpoint and verify its SHA-256.

    The source is a path or a URL. Writes data/weights/NAME.safetensors.

    \b
    Example: kmax weights fetch NAME
    """
    from kmax.porting import fetch_weights

    typer.echo(fetch_weights(name, overwrite=overwrite))


def train(
    run: Run,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Discard the saved state and start from the beginning.")
    ] = False,
    time_budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Save and exit with code 75 after this time budget: seconds, or 90s, 45m, 12h. "
            "The environment variable KMAX_TIME_BUDGET (seconds) does the same.",
        ),
    ] = None,
) -> None:
    """Train a run, or resume it.

    Writes results/RUN/model.safetensors and reports/metrics/RUN/history.csv. Uses all visible GPUs (the CPU
    if there are none), and all nodes if SLURM started it. The state is in runs/RUN/DIGEST: after a stop at
    any step, the same command resumes and gives the same weights.

    \b
    Examples:
      kmax train shapes-smoke
      kmax train coco_mini-tiny --time-budget 45m
    """
    from kmax import stages

    typer.echo(stages.train(run, fresh=fresh, time_budget=time_budget))


def port(run: Run, verify: Verify = False, recorded: Recorded = None) -> None:
    """Convert a fetched checkpoint into a run's model.

    Writes results/RUN/model.safetensors, and an account of every tensor to results/RUN/port.json.

    \b
    Example: kmax port coco-resnet50-tfzoo --verify
    """
    from kmax import stages

    log = partial(typer.echo, err=True)
    typer.echo(stages.port(run, verify=verify, recorded=recorded, log=log))


def predict(run: Run, split: Split = None) -> None:
    """Segment the run's validation images.

    Writes results/RUN/predictions/ (with --split: predictions-SPLIT/): panoptic.json, panoptic/*.png,
    pictures/, and, if the run requests them, instances.json or instances/ (for AP) and semantic/ (for mean
    IoU). If interrupted, the same command resumes.

    \b
    Examples:
      kmax predict shapes-smoke
      kmax predict coco-resnet50-tfzoo --split test-dev
    """
    from kmax import stages

    typer.echo(stages.predict(run, split))


def evaluate(run: Run) -> None:
    """Score the predictions.

    Writes reports/metrics/RUN/{metrics.json,scores.json,per_class.csv,per_image.npz,explanation/}.

    \b
    Example: kmax evaluate shapes-smoke
    """
    from kmax import stages

    typer.echo(stages.evaluate(run))


def benchmark(run: Run) -> None:
    """Measure size and speed of a run's model.

    Writes parameters, FLOPs, latency and memory to reports/metrics/RUN/speed.json. Nothing else should run on
    the device, because other work slows it down.

    \b
    Example: kmax benchmark shapes-smoke
    """
    from kmax import stages

    typer.echo(stages.benchmark(run))
