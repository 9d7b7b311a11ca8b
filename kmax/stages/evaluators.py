"""The evaluators on files alone: each returns what the terminal shows, and writes `out` where it is given."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmax.errors import InputError
from kmax.stages.text import percent, table

if TYPE_CHECKING:
    from kmax.evaluation.panoptic.explanation import Explanation
    from kmax.evaluation.panoptic.panoptic_files import PanopticArguments

_AP_ORDER = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar1", "ar10", "ar", "ar_small", "ar_medium", "ar_large"),
)
_CITYSCAPES_MEANS = {
    "iiou": "instance-level",
    "category_iou": "categories",
    "category_iiou": "categories, instance-level",
}


def pq_files(
    arguments: PanopticArguments,
    *,
    out: Path | None,
    evaluator: str = "panopticapi",
    check: bool = False,
    explain: Path | None = None,
) -> str:
    """Panoptic quality of prediction files, by the rules of panopticapi or of deeplab2.

    Args:
        explain: folder for where quality is lost, by the rules of panopticapi.
    """
    from kmax.evaluation.panoptic import deeplab2, pq
    from kmax.evaluation.panoptic.explanation import explain_files

    if check and evaluator != "panopticapi":
        raise InputError("--check-with official: only panopticapi can be compared with")
    notes = []
    if explain is not None:
        if evaluator != "panopticapi":
            raise InputError("--explain: only panoptic quality by the rules of panopticapi is explained")
        result, explanation = explain_files(arguments)
        notes.append(_explained(explanation, explain))
    else:
        evaluate = {"panopticapi": pq.evaluate_files, "deeplab2": deeplab2.evaluate_files}[evaluator]
        result = evaluate(arguments)
    if check:
        from kmax.evaluation.official import check_pq

        notes.append(check_pq(result, arguments))
    figures = result.to_json()
    rows = [[name, *(percent(figures[name][key]) for key in ("pq", "sq", "rq")), str(figures[name]["n"])]
            for name in pq.GROUPS]  # fmt: skip
    text = table(["", "PQ", "SQ", "RQ", "classes"], rows)
    return _told(figures, result.warnings, text, notes, out)


def _explained(explanation: Explanation, folder: Path) -> str:
    """Write where quality is lost into `folder`; the parts as a table."""
    from kmax.evaluation.panoptic.explanation import ALL_SIZES, PARTS, write_explanation

    write_explanation(folder, explanation)
    groups = explanation.group_parts()
    chosen = {name: parts["all"] for name, parts in groups.items()}
    chosen |= {size: groups["all"][size] for size in ALL_SIZES if size != "all"}
    rows = [[name, *(percent(parts[part]) for part in PARTS)] for name, parts in chosen.items()]
    text = table(["", "PQ", *PARTS[1:]], rows)
    return f"Where it is lost:\n{text}\n{folder}"


def ap_files(
    gt_json: Path,
    pred_json: Path,
    *,
    out: Path | None,
    strict: bool,
    iou_type: Any = "segm",
    max_detections: int = 100,
    split: str | None = None,
) -> str:
    """Average precision of detections in COCO's format."""
    from kmax.evaluation.coco import coco_ap

    result = coco_ap.evaluate_files(gt_json, pred_json, iou_type, max_detections, strict, split)
    figures = result.to_json()
    rows = [[name.replace("_", " "), percent(figures[name])] for name in _AP_ORDER]
    return _told(figures, result.warnings, table([iou_type, ""], rows), [], out)


def cityscapes_ap_files(
    gt_dir: Path,
    pred_dir: Path,
    *,
    out: Path | None,
    strict: bool,
    workers: int | None = None,
    split: str | None = None,
    check: bool = False,
) -> str:
    """Average precision of instances by the rules of Cityscapes."""
    from kmax.evaluation.cityscapes import cityscapes_ap
    from kmax.evaluation.cityscapes.cityscapes_labels import INSTANCE_CLASSES

    result = cityscapes_ap.evaluate_files(gt_dir, pred_dir, workers, strict, split)
    notes = []
    if check:
        from kmax.evaluation.official import check_cityscapes_ap

        notes.append(check_cityscapes_ap(result, gt_dir, pred_dir))
    figures = result.to_json()
    rows = [
        [label.name, *(percent(figures["per_category"][str(label.id)][key]) for key in ("ap", "ap50"))]
        for label in INSTANCE_CLASSES
    ]
    rows.append(["mean", percent(figures["ap"]), percent(figures["ap50"])])
    return _told(figures, result.warnings, table(["", "AP", "AP50"], rows), notes, out)


def miou_files(
    gt_json: Path | None,
    gt_dir: Path,
    pred_json: Path | None,
    pred_dir: Path,
    *,
    out: Path | None,
    strict: bool,
    labels: str = "panoptic",
    workers: int | None = None,
    split: str | None = None,
    check: bool = False,
) -> str:
    """Mean IoU of panoptic maps, or of label PNGs of Cityscapes or ADE20K."""
    from kmax.evaluation.cityscapes import cityscapes_miou
    from kmax.evaluation.panoptic.panoptic_files import PanopticArguments
    from kmax.evaluation.semantic import label_maps, miou

    options: dict[str, Any] = {"workers": workers, "strict": strict, "split": split}
    if check and labels != "cityscapes":
        raise InputError("--check-with official: only the mean IoU of --labels cityscapes can be compared")
    if [gt_json is not None, pred_json is not None] != [labels == "panoptic"] * 2:
        raise InputError("--gt-json and --pred-json belong to --labels panoptic, which needs both")
    notes = []
    result: Any
    if gt_json is not None and pred_json is not None:
        result = pixels = miou.evaluate_files(
            PanopticArguments(gt_json, gt_dir, pred_json, pred_dir, **options)
        )
    elif labels == "ade20k":
        result = pixels = label_maps.evaluate_ade20k(gt_dir, pred_dir, **options)
    else:
        result = cityscapes_miou.evaluate_files(gt_dir, pred_dir, **options)
        pixels = result.pixels
        if check:
            from kmax.evaluation.official import check_cityscapes_miou

            notes.append(check_cityscapes_miou(result, gt_dir, pred_dir))
    figures = result.to_json()
    rows = [
        [category.name, percent(figures["per_class"][str(category.id)]["iou"])]
        for category in pixels.categories
    ]
    rows += [[f"mean, {name}", percent(value)] for name, value in figures["averages"].items()]
    rows += [
        [f"mean, {text}", percent(figures[key])] for key, text in _CITYSCAPES_MEANS.items() if key in figures
    ]
    return _told(figures, result.warnings, table(["", "IoU"], rows), notes, out)


def _told(figures: dict[str, Any], warnings: list[str], text: str, notes: list[str], out: Path | None) -> str:
    from kmax.files import write_json

    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    images = figures["provenance"]["images"]
    lines = [f"{figures['evaluator']}, version {figures['version']}, {images} images", text, *notes]
    if out is not None:
        write_json(out, figures | {"warnings": warnings})
        lines.append(str(out))
    return "\n".join(lines)
