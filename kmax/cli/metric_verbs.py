"""`kmax metrics ...`: evaluate prediction files."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kmax.cli.common import Overwrite, percent, text_table
from kmax.display import category_labels
from kmax.errors import InputError
from kmax.outputs import IsOurs, check_outputs, json_object, require_outputs

if TYPE_CHECKING:
    from kmax.evaluation.panoptic.explanation import Explanation

group = typer.Typer(help="Evaluate prediction files.")
_AP_ORDER = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar1", "ar10", "ar", "ar_small", "ar_medium", "ar_large"),
)
_CITYSCAPES_MEANS = {
    "iiou": "instance-level",
    "category_iou": "categories",
    "category_iiou": "categories, instance-level",
}


class PanopticRules(StrEnum):
    """Evaluators of panoptic quality."""

    PANOPTICAPI = "panopticapi"
    DEEPLAB2 = "deeplab2"


class IouType(StrEnum):
    """Shapes of detections."""

    SEGM = "segm"
    BBOX = "bbox"


class LabelFormat(StrEnum):
    """Contents of the PNG files of semantic predictions."""

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
Out = Annotated[Path | None, typer.Option(help="JSON file to write the results to.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Reject unusual input that the official evaluator silently accepts.")
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes; default: as many as cores and free memory allow.")
]
Split = Annotated[
    str | None,
    typer.Option(help="Name of the split recorded in the output; default: that of the ground truth."),
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
    overwrite: Overwrite = False,
    strict: Strict = False,
    evaluator: Annotated[
        PanopticRules, typer.Option(help="Evaluator whose rules are applied.")
    ] = PanopticRules.PANOPTICAPI,
    workers: Workers = None,
    split: Split = None,
    check_with: Check = None,
    explain: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the error analysis (CSV and JSON)."),
    ] = None,
) -> None:
    """Panoptic quality.

    PQ, SQ and RQ of all classes, things and stuff.

    \b
    Example:
      G=data/prepared/shapes P=results/shapes-tiny/predictions
      kmax metrics pq --gt-json $G/panoptic_val.json --gt-dir $G/panoptic_val
        --pred-json $P/panoptic.json --pred-dir $P/panoptic --out pq.json
    """
    from kmax.evaluation.panoptic import deeplab2
    from kmax.evaluation.panoptic import pq as panoptic_quality
    from kmax.evaluation.panoptic.explanation import explain_files, explanation_files
    from kmax.evaluation.panoptic.panoptic_files import PanopticArguments

    if check_with is not None and evaluator is not PanopticRules.PANOPTICAPI:
        raise InputError("--check-with official: only available with the rules of panopticapi")
    if explain is not None and evaluator is not PanopticRules.PANOPTICAPI:
        raise InputError("--explain: the error analysis supports only the rules of panopticapi")
    analysis = {} if explain is None else explanation_files(explain)
    _check_outputs(out, "stuff", [gt_json, gt_dir, pred_json, pred_dir], overwrite, analysis)
    arguments = PanopticArguments(gt_json, gt_dir, pred_json, pred_dir, workers, strict, split)
    notes = []
    if explain is not None:
        result, explanation = explain_files(arguments)
        notes.append(_write_explanation(explain, explanation))
    elif evaluator is PanopticRules.DEEPLAB2:
        result = deeplab2.evaluate_files(arguments)
    else:
        result = panoptic_quality.evaluate_files(arguments)
    if check_with is not None:
        from kmax.evaluation.official import check_pq

        notes.append(check_pq(result, arguments))
    figures = result.to_json()
    rows = [[name, *(percent(figures[name][key]) for key in ("pq", "sq", "rq")), str(figures[name]["n"])]
            for name in panoptic_quality.GROUPS]  # fmt: skip
    _print_figures(result, figures, text_table(["", "PQ", "SQ", "RQ", "classes"], rows), notes, out)


def _write_explanation(folder: Path, explanation: Explanation) -> str:
    """Write the error analysis into `folder`; returns its summary as a table."""
    from kmax.evaluation.panoptic.explanation import ALL_SIZES, PARTS, write_explanation

    write_explanation(folder, explanation)
    groups = explanation.group_parts()
    chosen = {name: parts["all"] for name, parts in groups.items()}
    chosen |= {size: groups["all"][size] for size in ALL_SIZES if size != "all"}
    rows = [[name, *(percent(parts[part]) for part in PARTS)] for name, parts in chosen.items()]
    return f"Error analysis:\n{text_table(['', 'PQ', *PARTS[1:]], rows)}\n{folder}"


@group.command()
def ap(
    gt_json: Annotated[Path, typer.Option(help="Instance JSON of the ground truth.")],
    pred_json: Annotated[Path, typer.Option(help="JSON list of detections, in COCO's result format.")],
    iou_type: Annotated[IouType, typer.Option(help="Compare masks or boxes.")] = IouType.SEGM,
    max_detections: Annotated[
        int, typer.Option(help="Maximum per image and category; ADE20K uses 255.")
    ] = 100,
    out: Out = None,
    overwrite: Overwrite = False,
    strict: Strict = False,
    split: Split = None,
    check_with: Check = None,
) -> None:
    """COCO average precision of masks or boxes.

    By the rules of pycocotools.

    \b
    Example:
      kmax metrics ap --gt-json instances_val2017.json --pred-json detections.json
        --out ap.json
    """
    from kmax.evaluation import coco_ap

    _check_outputs(out, "iou_type", [gt_json, pred_json], overwrite)
    kind: Any = iou_type.value
    result = coco_ap.evaluate_files(gt_json, pred_json, kind, max_detections, strict, split)
    figures = result.to_json()
    notes = []
    if check_with is not None:
        from kmax.evaluation.official import check_coco_ap

        notes.append(check_coco_ap(result, gt_json, pred_json))
    rows = [[name.replace("_", " "), percent(figures[name])] for name in _AP_ORDER]
    _print_figures(result, figures, text_table([iou_type.value, ""], rows), notes, out)


@group.command("cityscapes-ap")
def cityscapes_ap(
    gt_dir: Annotated[Path, typer.Option(help="Folder of *_gtFine_instanceIds.png, such as gtFine/val.")],
    pred_dir: Annotated[Path, typer.Option(help="Folder with one text file per frame, and the masks.")],
    out: Out = None,
    overwrite: Overwrite = False,
    strict: Strict = False,
    workers: Workers = None,
    split: Split = None,
    check_with: Check = None,
) -> None:
    """Cityscapes average precision of instances.

    As the Cityscapes benchmark computes it.

    \b
    Example:
      kmax metrics cityscapes-ap --gt-dir gtFine/val --pred-dir results --out ap.json
    """
    from kmax.evaluation.cityscapes import cityscapes_ap
    from kmax.evaluation.cityscapes.cityscapes_format import INSTANCE_CLASSES

    _check_outputs(out, "ap50", [gt_dir, pred_dir], overwrite)
    result = cityscapes_ap.evaluate_files(gt_dir, pred_dir, workers, strict, split)
    notes = []
    if check_with is not None:
        from kmax.evaluation.official import check_cityscapes_ap

        notes.append(check_cityscapes_ap(result, gt_dir, pred_dir))
    figures = result.to_json()
    rows = [
        [label.name, *(percent(figures["per_category"][str(label.id)][key]) for key in ("ap", "ap50"))]
        for label in INSTANCE_CLASSES
    ]
    rows.append(["mean", percent(figures["ap"]), percent(figures["ap50"])])
    _print_figures(result, figures, text_table(["", "AP", "AP50"], rows), notes, out)


@group.command()
def miou(
    gt_dir: GtDir,
    pred_dir: PredDir,
    gt_json: Annotated[Path | None, typer.Option(help="Panoptic JSON of the ground truth.")] = None,
    pred_json: Annotated[Path | None, typer.Option(help="Panoptic JSON of the predictions.")] = None,
    labels: Annotated[LabelFormat, typer.Option(help="Contents of the PNG files.")] = LabelFormat.PANOPTIC,
    out: Out = None,
    overwrite: Overwrite = False,
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
    from kmax.evaluation.cityscapes import cityscapes_miou
    from kmax.evaluation.panoptic.panoptic_files import PanopticArguments
    from kmax.evaluation.semantic import label_maps
    from kmax.evaluation.semantic import miou as mean_iou

    options: dict[str, Any] = {"workers": workers, "strict": strict, "split": split}
    if check_with is not None and labels is not LabelFormat.CITYSCAPES:
        raise InputError("--check-with official: only available with --labels cityscapes")
    if [gt_json is not None, pred_json is not None] != [labels is LabelFormat.PANOPTIC] * 2:
        raise InputError(
            "--gt-json and --pred-json: required with --labels panoptic, not accepted with others"
        )
    inputs = [path for path in (gt_dir, pred_dir, gt_json, pred_json) if path is not None]
    _check_outputs(out, "averages", inputs, overwrite)
    notes = []
    result: Any
    if gt_json is not None and pred_json is not None:
        result = pixels = mean_iou.evaluate_files(
            PanopticArguments(gt_json, gt_dir, pred_json, pred_dir, **options)
        )
    elif labels is LabelFormat.ADE20K:
        result = pixels = label_maps.evaluate_ade20k(gt_dir, pred_dir, **options)
    else:
        result = cityscapes_miou.evaluate_files(gt_dir, pred_dir, **options)
        pixels = result.pixels
        if check_with is not None:
            from kmax.evaluation.official import check_cityscapes_miou

            notes.append(check_cityscapes_miou(result, gt_dir, pred_dir))
    figures = result.to_json()
    names = category_labels([(category.id, category.name) for category in pixels.categories])
    rows = [
        [name, percent(figures["per_class"][str(category.id)]["iou"])]
        for name, category in zip(names, pixels.categories, strict=True)
    ]
    rows += [[f"mean, {name}", percent(value)] for name, value in figures["averages"].items()]
    rows += [
        [f"mean, {text}", percent(figures[key])] for key, text in _CITYSCAPES_MEANS.items() if key in figures
    ]
    _print_figures(result, figures, text_table(["", "IoU"], rows), notes, out)


def _check_outputs(
    out: Path | None,
    key: str,
    inputs: Iterable[Path],
    overwrite: bool,
    others: Mapping[Path, IsOurs] = MappingProxyType({}),
) -> None:
    """Check the outputs of a verb before it evaluates; `key` is one of its results, `others` more outputs."""

    def is_result(path: Path) -> bool:
        found = json_object(path)
        # Both evaluators of AP have "ap50"; only that of COCO has "iou_type".
        wrong_ap = key == "ap50" and "iou_type" in found
        return found.keys() >= {"evaluator", "version", "provenance", "warnings", key} and not wrong_ap

    result = {} if out is None else {out: is_result}
    check_outputs([*result, *others], [])  # a mapping holds each name once
    require_outputs({**result, **others}, inputs, overwrite)


def _print_figures(
    result: Any, figures: dict[str, Any], table: str, notes: Sequence[str], out: Path | None
) -> None:
    """Print warnings to stderr, then evaluator, table and notes; write `out` if given, and print its path."""
    from kmax.files import write_json

    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    images, engine = figures["provenance"]["images"], figures["provenance"].get("engine")
    computed = f", computed by {engine}" if engine else ""
    head = f"{figures['evaluator']}, version {figures['version']}{computed}, {images} images"
    text = "\n".join([head, table, *notes])
    if out is not None:
        write_json(out, figures | {"warnings": result.warnings})
        text += f"\n{out}"
    typer.echo(text)
