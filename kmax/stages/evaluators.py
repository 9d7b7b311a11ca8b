"""The evaluators on files alone."""

from __future__ import annotations

from pathlib import Path


def pq_files(gt_json: Path, gt_dir: Path, pred_json: Path, pred_dir: Path, out: Path | None) -> str:
    """Panoptic quality of prediction files: a table, or the path of the JSON written."""
    raise NotImplementedError


def miou_files(gt_json: Path, gt_dir: Path, pred_json: Path, pred_dir: Path, out: Path | None) -> str:
    """Mean IoU of prediction files: a table, or the path of the JSON written."""
    raise NotImplementedError
