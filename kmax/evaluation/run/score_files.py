"""Files next to metrics.json: headline figures, scores per category, counts per image, the worst images."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from kmax.config.metrics import METRICS
from kmax.csv_files import csv_text
from kmax.data.formats.coco_panoptic import read_image, read_map
from kmax.evaluation.panoptic.explanation import Explanation
from kmax.evaluation.panoptic.pq import PQResult
from kmax.evaluation.run.run_scores import Predictions
from kmax.evaluation.semantic.miou import MiouResult
from kmax.files import atomic_path, write_text
from kmax.visualization.overlays import Rgb, overlay, show_image

PER_CLASS_COLUMNS = (
    *("category_id", "name", "isthing", "pq", "sq", "rq", "iou_sum", "tp", "fp", "fn"),
    "semantic_iou",
)
WORST = 6
GREY = 128
JPEG_QUALITY = 85
logger = logging.getLogger(__name__)


def headline(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures that `dvc metrics show` and `diff` put in one row per run (fractions)."""
    return {
        figure.name: reduce(lambda part, key: part[key], figure.path.split("/"), metrics[name])
        for name, metric in METRICS.items()
        if name in metrics
        for figure in metric.headline
    }


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
    rows = []
    for category, class_pq, sq, rq, iou_sum, tp, fp, fn, occurs, iou in columns:
        scores = [float(class_pq), float(sq), float(rq)] if occurs else ["", "", ""]
        semantic_iou = "" if np.isnan(iou) else float(iou)
        counted = [float(iou_sum), int(tp), int(fp), int(fn)]
        rows.append([category.id, category.name, int(category.isthing), *scores, *counted, semantic_iou])
    write_text(path, csv_text(PER_CLASS_COLUMNS, rows))


def write_per_image(path: Path, quality: PQResult, semantic: MiouResult) -> None:
    """Counts [images, categories], from which every score and interval can be recomputed."""
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
        np.savez_compressed(stream, **arrays)  # its zip entries have a fixed date: equal bytes


def draw_worst(folder: Path, explanation: Explanation, predictions: Predictions) -> None:
    """Write <rank>_<name>/{image,ground_truth,prediction}.jpg of the images with the lowest quality.

    An image that is missing on this machine is drawn in grey, with a warning.

    Raises:
        InputError: a corrupt image or map.
    """
    categories = predictions.prepared.categories
    images_dir = predictions.prepared.split(predictions.split).images_dir
    names = {image.id: image for image in predictions.images}
    class_of = {category.id: index for index, category in enumerate(categories)}
    absent = 0
    for rank, index in enumerate(explanation.worst()[:WORST], start=1):
        pair = predictions.files.images[index]
        image = names[pair.image_id]
        path = images_dir / image.file_name
        absent += not path.exists()
        pixels = (
            read_image(path) if path.exists() else np.full((image.height, image.width, 3), GREY, np.uint8)
        )
        place = folder / f"{rank}_{Path(image.file_name).stem}"
        _save(place / "image.jpg", show_image(pixels))
        known = [s for s in pair.truth_segments if not s["iscrowd"] and s["category_id"] in class_of]
        true = {s["id"]: class_of[s["category_id"]] for s in known}
        predicted = {s["id"]: class_of[s["category_id"]] for s in pair.predicted_segments}
        for name, map_path, classes in (
            ("ground_truth", pair.truth_path, true),
            ("prediction", pair.predicted_path, predicted),
        ):
            _save(place / f"{name}.jpg", overlay(pixels, read_map(map_path), classes, categories))
    if absent:
        logger.warning("%d of the worst images are not found in %s and are drawn in grey", absent, images_dir)


def _save(path: Path, picture: Rgb) -> None:
    with atomic_path(path) as temporary:
        Pillow.fromarray(picture).save(temporary, format="JPEG", quality=JPEG_QUALITY)
