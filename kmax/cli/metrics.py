"""`kmax metrics ...`: the evaluators on files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

group = typer.Typer(help="Evaluators on files alone.")
GtJson = Annotated[Path, typer.Option(help="Panoptic JSON of the ground truth.")]
GtDir = Annotated[Path, typer.Option(help="Folder of the ground truth's PNG files.")]
PredJson = Annotated[Path, typer.Option(help="Panoptic JSON of the predictions.")]
PredDir = Annotated[Path, typer.Option(help="Folder of the predictions' PNG files.")]
Out = Annotated[Path | None, typer.Option(help="JSON file to write the figures to.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse odd input that the official evaluator silently accepts.")
]


def add_to(app: typer.Typer) -> None:
    """Add the group to the command."""
    app.add_typer(group, name="metrics")


@group.command()
def pq(
    gt_json: GtJson,
    gt_dir: GtDir,
    pred_json: PredJson,
    pred_dir: PredDir,
    out: Out = None,
    strict: Strict = False,
) -> None:
    """Panoptic quality.

    PQ, SQ and RQ, for all, things and stuff.

    \b
    Example:
      G=data/prepared/shapes P=results/shapes-tiny/predictions
      kmax metrics pq --gt-json $G/panoptic_val.json --gt-dir $G/panoptic_val
        --pred-json $P/panoptic.json --pred-dir $P/panoptic --out pq.json
    """
    from kmax import stages

    typer.echo(stages.pq_files(gt_json, gt_dir, pred_json, pred_dir, out=out, strict=strict))


@group.command()
def miou(
    gt_json: GtJson,
    gt_dir: GtDir,
    pred_json: PredJson,
    pred_dir: PredDir,
    out: Out = None,
    strict: Strict = False,
) -> None:
    """Mean intersection over union."""
    from kmax import stages

    typer.echo(stages.miou_files(gt_json, gt_dir, pred_json, pred_dir, out=out, strict=strict))
