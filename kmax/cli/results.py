"""Verbs on the results of runs: `kmax compare`, `report`, `pipelines`, `record`, `restore`, `track ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kmax.cli.common import Overwrite, percent, text_table

track = typer.Typer(help="Send recorded events to MLflow, and view them.")
EvaluatedRun = Annotated[str, typer.Argument(metavar="RUN", help="Name of an evaluated run.")]


def add_to(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    for verb in (compare, report, pipelines, record, restore):
        app.command()(verb)
    app.add_typer(track, name="track")


def compare(
    first: EvaluatedRun,
    second: EvaluatedRun,
    out: Annotated[Path | None, typer.Option(help="JSON file to write the results to.")] = None,
    overwrite: Overwrite = False,
    samples: Annotated[int, typer.Option(min=1, help="Number of bootstrap resamples.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed for resampling.")] = 0,
) -> None:
    """Compare two runs on the same images.

    Differences of PQ, SQ, RQ and mean IoU (second minus first) with 95% intervals by a paired bootstrap over
    images, and two-sided p-values by exchanging the runs' results image by image. Both runs must be evaluated
    on the same split and ground truth by the same evaluator.

    \b
    Example:
      kmax compare shapes-tiny shapes-tiny-s1 --out comparison.json
    """
    from kmax import paths
    from kmax.config.metrics import METRICS, MIOU
    from kmax.evaluation.run.compare_runs import compare
    from kmax.evaluation.run.evaluated_run import read_evaluated
    from kmax.files import write_json
    from kmax.outputs import json_object, require_outputs

    if out is not None:
        inputs = [paths.metrics(first).parent, paths.metrics(second).parent]
        known = {"runs", "difference", "samples", "seed", "provenance"}
        require_outputs({out: lambda path: json_object(path).keys() >= known}, inputs, overwrite)
    comparison = compare(read_evaluated(first), read_evaluated(second), samples=samples, seed=seed)
    metric = METRICS.get(str(comparison.first.miou_facts.get("figure")), MIOU)
    rows = []
    for (group, score), one in comparison.differences.items():
        name = metric.title if score == "miou" else f"{score.upper()} {group}"
        ends = " to ".join(percent(end, sign=True) for end in one.interval)
        scores = [percent(one.first), percent(one.second), percent(one.difference, sign=True)]
        rows.append([name, *scores, ends, f"{one.p:.4f}"])
    facts = comparison.first.facts
    typer.echo(
        f"{facts['dataset']} {facts['split']}, {facts['images']} images; {samples} resamples, in percent"
    )
    typer.echo(text_table(["", first, second, "difference", "95% interval", "p"], rows))
    for note in comparison.notes:
        typer.echo(note)
    if out is not None:
        write_json(out, comparison.to_json())
        typer.echo(out)


def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Runs or families; default: the default family."),
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
            help="Folder to write to; default: reports/ for the default family, "
            "reports/families/NAME for others.",
        ),
    ] = None,
    from_mlflow: Annotated[
        bool, typer.Option("--from-mlflow", help="Read the measured values from MLflow instead of files.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Build tables, figures and the site.

    Reads the measured figures and writes tables/, figures/ and site/ below the folder. The report on the
    default family is in reports/, that on other runs or families in reports/families/NAME (NAME+NAME for
    several).

    \b
    Examples:
      kmax report
      kmax report shapes-smoke
      kmax report --check published
    """
    from kmax import stages

    typer.echo(stages.report(runs or [], out=out, check=check, from_mlflow=from_mlflow, overwrite=overwrite))


def pipelines(
    check: Annotated[
        bool, typer.Option("--check", help="Only check whether the files are up to date.")
    ] = False,
) -> None:
    """Write the DVC pipeline of every family.

    From params/runs and workflow/dvc.yaml.template: dvc.yaml for the default family, and
    workflow/pipelines/FAMILY/dvc.yaml for the others. Run it after adding a run or a family.

    \b
    Example: kmax pipelines --check
    """
    from kmax.engines import check_pipelines, write_pipelines

    if check:
        typer.echo(f"{check_pipelines()} pipelines are up to date")
        return
    for path in write_pipelines():
        typer.echo(path)


def record(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Families or runs; default: the default family."),
    ] = None,
) -> None:
    """Commit finished results to DVC.

    Afterwards `dvc repro` has nothing to do. Fails unless `snakemake -n` reports that nothing is left to do.

    \b
    Examples:
      kmax record
      kmax record coco_mini
    """
    from kmax.engines import record

    stages = record(names or [])
    # A stage outside the root's pipeline has the address "<its dvc.yaml>:<stage>".
    pipelines = [stage.rpartition(":")[0] or "dvc.yaml" for stage in stages]
    locks = dict.fromkeys(pipeline.removesuffix("yaml") + "lock" for pipeline in pipelines)
    for line in [*stages, *locks] or ["nothing to record"]:
        typer.echo(line)


def restore() -> None:
    """Pull recorded results from DVC.

    Afterwards neither `dvc repro` nor `snakemake` has anything to do.
    """
    from kmax.engines import restore

    for line in restore().lines():
        typer.echo(line)


@track.command()
def sync(
    runs: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Runs; default: all.")] = None,
) -> None:
    """Send missing events to MLflow.

    Events are written to files first; this command sends those that the server missed.

    \b
    Example: MLFLOW_TRACKING_URI=http://127.0.0.1:5000 kmax track sync
    """
    from kmax.tracking.mlflow_store import sync

    for line in sync(runs or []).lines() or ["no run has recorded events"]:
        typer.echo(line)


@track.command()
def ui(port: Annotated[int, typer.Option(help="Port on 127.0.0.1.", min=1, max=65535)] = 5000) -> None:
    """Open the MLflow UI on 127.0.0.1; Ctrl-C ends it."""
    from kmax.tracking.mlflow_store import serve

    serve(port)
