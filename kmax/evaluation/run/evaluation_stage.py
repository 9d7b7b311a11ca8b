"""The evaluate stage: scores of a run's predictions, with intervals and with where they come from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from kmax import paths
from kmax.config import Evaluate, Run
from kmax.data.datasets import open_prepared
from kmax.data.formats.coco_panoptic import select_images
from kmax.data.formats.coco_panoptic_json import read_panoptic_json
from kmax.errors import InputError
from kmax.evaluation.bootstrap import intervals
from kmax.evaluation.panoptic import deeplab2, pq
from kmax.evaluation.panoptic.ceiling import stride4_ceiling
from kmax.evaluation.panoptic.explanation import explain, write_explanation
from kmax.evaluation.panoptic.image_segments import ImageSegments, count_images
from kmax.evaluation.panoptic.panoptic_files import PanopticFiles, open_predictions
from kmax.evaluation.panoptic.segment_outcomes import SegmentOutcomes, find_outcomes
from kmax.evaluation.run.run_ap import average_precision
from kmax.evaluation.run.run_miou import semantic_iou
from kmax.evaluation.run.score_files import headline, write_per_class, write_per_image
from kmax.evaluation.run.worst_images import draw_worst
from kmax.evaluation.semantic import miou
from kmax.files import atomic_folder, write_json

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
    truth = read_panoptic_json(split.panoptic_json)
    images = select_images(truth.images, run.data.val_images, run.run)
    files = open_predictions(truth, images, split.panoptic_dir, predicted_json, folder / "panoptic")
    isthing = [category.isthing for category in files.categories]
    counts = count_images(files, partial(_count, isthing=isthing), workers=None)
    quality, by_deeplab2, of_maps = _of_maps(run, files, [one for one, _ in counts])
    explanation = explain(files.categories, quality.image_ids, [rows for _, rows in counts])
    instances = average_precision(run, files, images, folder)
    semantic = semantic_iou(run, files, images, folder)

    wanted = run.evaluate.metrics
    results: dict[str, pq.PQResult | miou.MiouResult]
    results = {"pq": quality, "pq_deeplab2": by_deeplab2, "miou_panoptic": of_maps}
    metrics: dict[str, Any] = {name: result.to_json() for name, result in results.items() if name in wanted}
    metrics |= {name: result.to_json() for name, result in instances.items()}
    if semantic is not None:
        metrics["miou"] = semantic.figures
    if "ceiling" in wanted:
        ceiling = stride4_ceiling(files, (run.data.image_size[0], run.data.image_size[1]))
        metrics["ceiling"] = ceiling.to_json()
        logger.warning("%s: %s", run.run, _ceiling_line(quality, ceiling))
    evaluators = {name: figures["evaluator"] for name, figures in metrics.items()}
    versions = {name: figures["version"] for name, figures in metrics.items()}
    told = [quality, *instances.values(), *([] if semantic is None else [semantic.pixels])]
    metrics["warnings"] = list(dict.fromkeys(line for result in told for line in result.warnings))
    for line in metrics["warnings"]:
        logger.warning("%s", line)
    metrics["intervals"] = _intervals(
        run.evaluate,
        quality if "pq" in wanted else None,
        None if semantic is None else semantic.pixels,
        of_maps if "miou_panoptic" in wanted else None,
    )
    assert quality.provenance is not None
    metrics["provenance"] = {
        **provenance,
        "run": run.run,
        "evaluator": evaluators,
        "version": versions,
        "protocol": PROTOCOL,
        "dataset": run.data.dataset,
        "split": run.data.val_split,
        "images": len(files.images),
        "ground_truth_digest": quality.provenance.ground_truth_digest,
        "predictions_digest": quality.provenance.predictions_digest,
        "data_digest": prepared.digest,
        "flavour": run.model.flavour,
    }
    pixels = of_maps if semantic is None else semantic.pixels
    write_per_class(paths.per_class(run.run), quality, pixels)
    write_per_image(paths.per_image(run.run), quality, pixels)
    with atomic_folder(paths.explanation(run.run)) as made:
        write_explanation(made, explanation)
        draw_worst(made / "worst", explanation, files, images, split.images_dir, prepared.categories)
    write_json(paths.scores(run.run), headline(metrics))
    write_json(paths.metrics(run.run), metrics)
    return paths.metrics(run.run)


ImageCounts = tuple[pq.Counts, miou.PixelCounts, pq.Counts]


def _count(image: ImageSegments, isthing: list[bool]) -> tuple[ImageCounts, SegmentOutcomes]:
    """Counts of panoptic quality, of mean IoU and of deeplab2's panoptic quality; what became of segments."""
    size = len(isthing)
    matching = pq.match_segments(image, size)
    counts = pq.count(image, matching, size), miou.count_pixels(image, size)
    return (*counts, deeplab2.match_image(image, isthing)), find_outcomes(image, matching)


def _of_maps(
    run: Run, files: PanopticFiles, counts: list[ImageCounts]
) -> tuple[pq.PQResult, pq.PQResult, miou.MiouResult]:
    """What the panoptic maps say: panoptic quality by both rules, and mean IoU."""
    told, split = files.warnings.lines(), run.data.val_split
    arguments = files.categories, [image.image_id for image in files.images]
    of_pq, of_pixels, of_deeplab2 = (list(column) for column in zip(*counts, strict=True))
    quality = pq.collect(*arguments, of_pq, told)
    by_deeplab2 = pq.collect(*arguments, of_deeplab2, told)
    of_maps = miou.collect(*arguments, of_pixels, told)
    return (
        replace(quality, provenance=files.provenance(pq.EVALUATOR, PROTOCOL, split)),
        replace(by_deeplab2, provenance=files.provenance(deeplab2.EVALUATOR, PROTOCOL, split)),
        replace(of_maps, provenance=files.provenance(miou.EVALUATOR, miou.PROTOCOL, split)),
    )


def _intervals(
    evaluate: Evaluate,
    quality: pq.PQResult | None,
    semantic: miou.MiouResult | None,
    of_maps: miou.MiouResult | None,
) -> dict[str, Any]:
    """95% intervals, at the paths of the figures that they are of."""
    options = {"samples": evaluate.bootstrap_samples, "seed": evaluate.bootstrap_seed}
    found = intervals(quality, semantic, **options)
    if of_maps is not None:
        found["miou_panoptic"] = {"miou": intervals(None, of_maps, **options).get("miou")}
    return found


def _ceiling_line(quality: pq.PQResult, ceiling: pq.PQResult) -> str:
    """What was reached, and what labels decided on the stride-4 grid could reach."""
    reached, allowed = (result.group("all")["pq"] or 0.0 for result in (quality, ceiling))
    share = f", {reached / allowed:.0%} of it" if allowed else ""
    return f"the stride-4 grid allows PQ {100 * allowed:.1f}; reached {100 * reached:.1f}{share}"
