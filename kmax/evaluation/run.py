"""The evaluate stage: scores of a run's predictions, with intervals and with where they come from."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kmax import paths
from kmax.config import Run
from kmax.data.datasets import open_prepared
from kmax.data.panoptic import select_images
from kmax.data.panoptic_json import read_panoptic_json
from kmax.errors import InputError
from kmax.evaluation import deeplab2, miou, pq
from kmax.evaluation.bootstrap import intervals
from kmax.evaluation.ceiling import stride4_ceiling
from kmax.evaluation.files import open_files
from kmax.evaluation.matchable import Matchable
from kmax.evaluation.stream import read_all
from kmax.files import atomic_path, write_json, write_text

PROTOCOL = "mask-wise panoptic prediction at image size, single scale, no flip"
logger = logging.getLogger(__name__)


def evaluate_run(run: Run, provenance: Mapping[str, Any]) -> Path:
    """Evaluate `results/<run>/predictions` and write `reports/metrics/<run>/{metrics.json,...}`.

    Args:
        provenance: what the caller knows about the run's identity (digests of run and parameters, commit); it
            is written into metrics.json beside what is known here. Equal input gives equal bytes.

    Returns:
        The path of metrics.json.

    Raises:
        InputError: predictions are missing or not such as the evaluator accepts.
    """
    prepared = open_prepared(run.data.dataset)
    split = prepared.split(run.data.val_split)
    folder = paths.predictions(run.run)
    predicted_json = folder / "panoptic.json"
    if not predicted_json.exists():
        raise InputError(f"{predicted_json}: no predictions; make them first: kmax predict {run.run}")
    images = select_images(read_panoptic_json(split.panoptic_json).images, run.data.val_images, run.run)
    files = open_files(
        split.panoptic_json,
        split.panoptic_dir,
        predicted_json,
        folder / "panoptic",
        image_ids={image.id for image in images},
    )
    isthing = [category.isthing for category in files.categories]
    counts = read_all(files, partial(_count, isthing=isthing), workers=None)
    for line in files.oddities.lines():
        logger.warning("%s", line)
    image_ids = [image.image_id for image in files.images]
    quality = pq.collect(files.categories, image_ids, [c for c, _, _ in counts], files.oddities.lines())
    semantic = miou.collect(files.categories, image_ids, [c for _, c, _ in counts], quality.warnings)

    read = files.provenance(pq.EVALUATOR, PROTOCOL, run.data.val_split)

    wanted = run.evaluate.metrics
    metrics: dict[str, Any] = {"warnings": quality.warnings}
    if "pq" in wanted:
        metrics["pq"] = quality.to_json()
    if "pq_deeplab2" in wanted:
        by_deeplab2 = pq.collect(files.categories, image_ids, [c for _, _, c in counts], quality.warnings)
        metrics["pq_deeplab2"] = by_deeplab2.to_json() | {"evaluator": deeplab2.EVALUATOR}
    if "miou" in wanted:
        metrics["miou"] = semantic.to_json()
    if "ceiling" in wanted:
        ceiling = stride4_ceiling(prepared, run.data)
        metrics["ceiling"] = ceiling.to_json()
        logger.warning("%s: %s", run.run, _ceiling_line(quality, ceiling))
    metrics["intervals"] = intervals(
        quality if "pq" in wanted else None,
        semantic if "miou" in wanted else None,
        samples=run.evaluate.bootstrap_samples,
        seed=run.evaluate.bootstrap_seed,
    )
    metrics["provenance"] = {
        **provenance,
        "run": run.run,
        "evaluator": {name: metrics[name]["evaluator"] for name in wanted},
        "version": {name: metrics[name]["version"] for name in wanted},
        "protocol": PROTOCOL,
        "dataset": run.data.dataset,
        "split": run.data.val_split,
        "images": len(image_ids),
        "ground_truth_digest": read.ground_truth_digest,
        "predictions_digest": read.predictions_digest,
        "data_digest": prepared.digest,
        "flavour": run.model.flavour,
    }
    _write_per_class(paths.per_class(run.run), quality, semantic)
    _write_per_image(paths.per_image(run.run), quality, semantic)
    write_json(paths.scores(run.run), _scores(metrics))
    write_json(paths.metrics(run.run), metrics)
    return paths.metrics(run.run)


def _count(image: Matchable, isthing: list[bool]) -> tuple[pq.Counts, miou.PixelCounts, pq.Counts]:
    """Counts of panoptic quality, of mean IoU and of deeplab2's panoptic quality."""
    size = len(isthing)
    return pq.match(image, size), miou.count_pixels(image, size), deeplab2.match_image(image, isthing)


def _scores(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers that `dvc metrics show` and `diff` put in one row per run (fractions)."""
    scores: dict[str, float | None] = {}
    if "pq" in metrics:
        groups = {"": "all", "_things": "things", "_stuff": "stuff"}
        scores |= {f"pq{suffix}": metrics["pq"][group]["pq"] for suffix, group in groups.items()}
        scores |= {name: metrics["pq"]["all"][name] for name in ("sq", "rq")}
    if "pq_deeplab2" in metrics:
        scores["pq_deeplab2"] = metrics["pq_deeplab2"]["all"]["pq"]
    if "miou" in metrics:
        scores["miou"] = metrics["miou"]["miou"]
    if "ceiling" in metrics:
        scores["pq_ceiling"] = metrics["ceiling"]["all"]["pq"]
    return scores


def _ceiling_line(quality: pq.PQResult, ceiling: pq.PQResult) -> str:
    """What was reached, and what labels decided on the stride-4 grid could reach."""
    reached, allowed = (result.group("all")["pq"] or 0.0 for result in (quality, ceiling))
    share = f", {reached / allowed:.0%} of it" if allowed else ""
    return f"the stride-4 grid allows PQ {100 * allowed:.1f}; reached {100 * reached:.1f}{share}"


def _write_per_class(path: Path, quality: pq.PQResult, semantic: miou.MiouResult) -> None:
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


def _write_per_image(path: Path, quality: pq.PQResult, semantic: miou.MiouResult) -> None:
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
