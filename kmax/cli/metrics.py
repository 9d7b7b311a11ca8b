"""`kmax metrics ...`: the evaluators on files alone."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

group = typer.Typer(help="Evaluators on files alone.")


class Evaluator(StrEnum):
    """Whose rules of panoptic quality."""

    PANOPTICAPI = "panopticapi"
    DEEPLAB2 = "deeplab2"


class IouType(StrEnum):
    """What detections are compared by."""

    SEGM = "segm"
    BBOX = "bbox"


class Labels(StrEnum):
    """What the PNG files of semantic predictions hold."""

    PANOPTIC = "panoptic"
    CITYSCAPES = "cityscapes"
    ADE20K = "ade20k"


class CheckWith(StrEnum):
    """Another evaluator to compare with."""

    OFFICIAL = "official"


GtJson = Annotated[Path, typer.Option(help="Panoptic JSON of the ground truth.")]
GtDir = Annotated[Path, typer.Option(help="Folder of the ground truth's PNG files.")]
PredJson = Annotated[Path, typer.Option(help="Panoptic JSON of the predictions.")]
PredDir = Annotated[Path, typer.Option(help="Folder of the predictions' PNG files.")]
Out = Annotated[Path | None, typer.Option(help="JSON file to write the figures to.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse odd input that the official evaluator silently accepts.")
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes; default: as many as cores and free memory allow.")
]
Split = Annotated[
    str | None, typer.Option(help="Name of the split for the record; default: that of the ground truth.")
]
Check = Annotated[
    CheckWith | None, typer.Option(help="Also run the official evaluator, if installed, and compare.")
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
    evaluator: Annotated[Evaluator, typer.Option(help="Whose rules.")] = Evaluator.PANOPTICAPI,
    workers: Workers = None,
    split: Split = None,
    check_with: Check = None,
    explain: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder to write where quality is lost to, as CSV and JSON."),
    ] = None,
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
    from kmax.evaluation.panoptic.panoptic_files import PanopticArguments

    text = stages.pq_files(
        PanopticArguments(gt_json, gt_dir, pred_json, pred_dir, workers, strict, split),
        out=out,
        evaluator=evaluator.value,
        check=check_with is not None,
        explain=explain,
    )
    typer.echo(text)


@group.command()
def ap(
    gt_json: Annotated[Path, typer.Option(help="Instance JSON of the ground truth.")],
    pred_json: Annotated[Path, typer.Option(help="JSON list of detections, in COCO's format for results.")],
    iou_type: Annotated[IouType, typer.Option(help="Compare masks or boxes.")] = IouType.SEGM,
    max_detections: Annotated[int, typer.Option(help="Per image and category; ADE20K takes 255.")] = 100,
    out: Out = None,
    strict: Strict = False,
    split: Split = None,
    check_with: Check = None,
) -> None:
    """Average precision of COCO.

    Of masks or of boxes, by the rules of pycocotools.

    \b
    Example:
      kmax metrics ap --gt-json instances_val2017.json --pred-json detections.json
        --out ap.json
    """
    from kmax import stages

    text = stages.ap_files(
        gt_json,
        pred_json,
        out=out,
        strict=strict,
        iou_type=iou_type.value,
        max_detections=max_detections,
        split=split,
        check=check_with is not None,
    )
    typer.echo(text)


@group.command("cityscapes-ap")
def cityscapes_ap(
    gt_dir: Annotated[Path, typer.Option(help="Folder of *_gtFine_instanceIds.png, such as gtFine/val.")],
    pred_dir: Annotated[Path, typer.Option(help="Folder of a text file per frame, and its masks.")],
    out: Out = None,
    strict: Strict = False,
    workers: Workers = None,
    split: Split = None,
    check_with: Check = None,
) -> None:
    """Average precision of Cityscapes.

    Of instances, as its benchmark computes it.

    \b
    Example:
      kmax metrics cityscapes-ap --gt-dir gtFine/val --pred-dir results --out ap.json
    """
    from kmax import stages

    text = stages.cityscapes_ap_files(
        gt_dir,
        pred_dir,
        out=out,
        strict=strict,
        workers=workers,
        split=split,
        check=check_with is not None,
    )
    typer.echo(text)


@group.command()
def miou(
    gt_dir: GtDir,
    pred_dir: PredDir,
    gt_json: Annotated[Path | None, typer.Option(help="Panoptic JSON of the ground truth.")] = None,
    pred_json: Annotated[Path | None, typer.Option(help="Panoptic JSON of the predictions.")] = None,
    labels: Annotated[Labels, typer.Option(help="What the PNG files hold.")] = Labels.PANOPTIC,
    out: Out = None,
    strict: Strict = False,
    workers: Workers = None,
    split: Split = None,
    check_with: Check = None,
) -> None:
    """Mean intersection over union.

    Of panoptic maps, or of label maps of Cityscapes or ADE20K.

    \b
    Example:
      kmax metrics miou --labels cityscapes --gt-dir gtFine/val --pred-dir results
    """
    from kmax import stages

    text = stages.miou_files(
        gt_json,
        gt_dir,
        pred_json,
        pred_dir,
        out=out,
        strict=strict,
        labels=labels.value,
        workers=workers,
        split=split,
        check=check_with is not None,
    )
    typer.echo(text)
