"""The small files beside metrics.json: headline figures, scores per category, counts per image."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kmax.evaluation.panoptic.pq import PQResult
from kmax.evaluation.semantic.miou import MiouResult
from kmax.files import atomic_path, write_text


def headline(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers that `dvc metrics show` and `diff` put in one row per run (fractions)."""
    scores: dict[str, float | None] = {}
    if "pq" in metrics:
        groups = {"": "all", "_things": "things", "_stuff": "stuff"}
        scores |= {f"pq{suffix}": metrics["pq"][group]["pq"] for suffix, group in groups.items()}
        scores |= {name: metrics["pq"]["all"][name] for name in ("sq", "rq")}
    if "pq_deeplab2" in metrics:
        scores["pq_deeplab2"] = metrics["pq_deeplab2"]["all"]["pq"]
    if "ap" in metrics:
        scores |= {"ap": metrics["ap"]["ap"], "ap50": metrics["ap"]["ap50"]}
    if "ap_box" in metrics:
        scores["ap_box"] = metrics["ap_box"]["ap"]
    scores |= {name: metrics[name]["miou"] for name in ("miou", "miou_panoptic") if name in metrics}
    if "ceiling" in metrics:
        scores["pq_ceiling"] = metrics["ceiling"]["all"]["pq"]
    return scores


def write_per_class(path: Path, quality: PQResult, semantic: MiouResult) -> None:
    """One row per category; empty cells where a category does not occur."""
    counts = quality.counts()
    columns = zip(
        quality.categories,
        *counts.scores(),
        counts.iou_sum,
        counts.tp,
        counts.fp,
        counts.fn,
        counts.occurs(),
        semantic.counts().iou(),
        strict=True,
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["category_id", "name", "isthing", "pq", "sq", "rq", "iou_sum", "tp", "fp", "fn", "semantic_iou"]
    )
    for category, class_pq, sq, rq, iou_sum, tp, fp, fn, occurs, iou in columns:
        scores = [float(class_pq), float(sq), float(rq)] if occurs else ["", "", ""]
        semantic_iou = "" if np.isnan(iou) else float(iou)
        counted = [float(iou_sum), int(tp), int(fp), int(fn)]
        writer.writerow([category.id, category.name, int(category.isthing), *scores, *counted, semantic_iou])
    write_text(path, text.getvalue())


def write_per_image(path: Path, quality: PQResult, semantic: MiouResult) -> None:
    """Counts [images, categories], from which every score and interval can be made again."""
    counts, pixels = quality.per_image, semantic.per_image
    arrays: dict[str, Any] = {
        "image_ids": np.array([str(image_id) for image_id in quality.image_ids]),
        "category_ids": np.array([category.id for category in quality.categories]),
        "iou_sum": counts.iou_sum,
        "tp": counts.tp.astype(np.int32),
        "fp": counts.fp.astype(np.int32),
        "fn": counts.fn.astype(np.int32),
        "pixels_intersection": pixels.intersection.astype(np.int64),
        "pixels_truth": pixels.truth.astype(np.int64),
        "pixels_predicted": pixels.predicted.astype(np.int64),
    }
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **arrays)  # its zip entries carry a fixed date: equal bytes
