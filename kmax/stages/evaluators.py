"""The evaluators on files alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kmax.evaluation.miou import MiouResult
    from kmax.evaluation.pq import PQResult


def pq_files(
    gt_json: Path, gt_dir: Path, pred_json: Path, pred_dir: Path, *, out: Path | None, strict: bool
) -> str:
    """Panoptic quality of prediction files: a table, and `out` where it is given."""
    from kmax.evaluation import pq

    result = pq.evaluate_files(gt_json, gt_dir, pred_json, pred_dir, workers=_workers(), strict=strict)
    figures = result.to_json()
    names = list(pq.GROUPS)
    rows = [[name, *(_percent(figures[name][key]) for key in ("pq", "sq", "rq")), str(figures[name]["n"])]
            for name in names]  # fmt: skip
    return _told(result, figures, _table(["", "PQ", "SQ", "RQ", "classes"], rows), out)


def miou_files(
    gt_json: Path, gt_dir: Path, pred_json: Path, pred_dir: Path, *, out: Path | None, strict: bool
) -> str:
    """Mean IoU of prediction files: a table, and `out` where it is given."""
    from kmax.evaluation import miou

    result = miou.evaluate_files(gt_json, gt_dir, pred_json, pred_dir, workers=_workers(), strict=strict)
    figures = result.to_json()
    rows = [[category.name, _percent(figures["per_class"][str(category.id)]["iou"])]
            for category in result.categories]  # fmt: skip
    rows.append(["mean", _percent(figures["miou"])])
    return _told(result, figures, _table(["", "IoU"], rows), out)


def _told(result: PQResult | MiouResult, figures: dict[str, Any], table: str, out: Path | None) -> str:
    from kmax.files import write_json

    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    heading = f"{figures['evaluator']}, version {figures['version']}, {len(result.image_ids)} images"
    if out is None:
        return f"{heading}\n{table}"
    write_json(out, figures)
    return f"{heading}\n{table}\n{out}"


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.2f}"


def _table(header: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for row in [header, *rows]:
        numbers = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append("  ".join([row[0].ljust(widths[0]), *numbers]))
    return "\n".join(lines)


def _workers() -> int:
    return min(8, os.cpu_count() or 1)
