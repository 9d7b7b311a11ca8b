"""The stages of a run: `kmax weights fetch`, `train`, `port`, `predict`, `evaluate`, `benchmark`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from kmax.cli.options import Recorded, Split, Verify

weights = typer.Typer(help="Checkpoints to start from (params/weights.yaml).")
Run = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run.")]


def add_to(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    app.add_typer(weights, name="weights")
    for verb in (train, port, predict, evaluate, benchmark):
        app.command()(verb)


@weights.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An entry of params/weights.yaml.")],
) -> None:
    """Fetch a checkpoint and check its sha256.

    The source is a path or a URL; writes data/weights/NAME.safetensors.

    \b
    Example: kmax weights fetch NAME
    """
    from kmax.porting import fetch_weights

    typer.echo(fetch_weights(name))


def train(
    run: Run,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the saved state and start again.")] = False,
    time_budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Save and end with exit code 75 after this time: seconds, or 90s, 45m, 12h. "
            "The environment variable KMAX_TIME_BUDGET (seconds) does the same.",
        ),
    ] = None,
) -> None:
    """Train a run, or resume it.

    Writes results/RUN/model.safetensors and reports/metrics/RUN/history.csv. Uses all GPUs that it sees (the
    CPU where there is none), and SLURM's nodes where SLURM started it. State lies in runs/RUN/DIGEST: ended
    at any step, the same command goes on and reaches the same weights.

    \b
    Examples:
      kmax train shapes-smoke
      kmax train coco_mini-tiny --time-budget 45m
    """
    from kmax import stages

    typer.echo(stages.train(run, fresh=fresh, time_budget=time_budget))


def port(run: Run, verify: Verify = False, recorded: Recorded = None) -> None:
    """Turn a fetched checkpoint into a run's model.

    Writes results/RUN/model.safetensors, and what became of every tensor to results/RUN/port.json.

    \b
    Example: kmax port coco-resnet50-tfzoo --verify
    """
    from kmax import stages

    tell = partial(typer.echo, err=True)
    typer.echo(stages.port(run, verify=verify, recorded=recorded, tell=tell))


def predict(run: Run, split: Split = None) -> None:
    """Segment the run's val images.

    Writes results/RUN/predictions/ (with --split: predictions-SPLIT/): panoptic.json, panoptic/*.png,
    pictures/, and as the run file asks instances.json or instances/ (for AP) and semantic/ (for mean IoU).
    Interrupted, it goes on.

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

    Writes parameters, FLOPs, latency and memory to reports/metrics/RUN/speed.json. Run it alone on its
    device: other work there makes the times longer.

    \b
    Example: kmax benchmark shapes-smoke
    """
    from kmax import stages

    typer.echo(stages.benchmark(run))
