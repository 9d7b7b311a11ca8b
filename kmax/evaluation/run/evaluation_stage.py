"""The evaluate stage: scores of a run's predictions, with intervals and provenance."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from kmax import paths
from kmax.config import Run
from kmax.data.datasets import open_prepared
from kmax.data.formats.coco_panoptic import select_images
from kmax.data.formats.coco_panoptic_json import read_panoptic_json
from kmax.errors import InputError
from kmax.evaluation.bootstrap import LEVEL
from kmax.evaluation.panoptic import pq
from kmax.evaluation.panoptic.explanation import Explanation, explain, write_explanation
from kmax.evaluation.panoptic.image_segments import ImageSegments, count_images
from kmax.evaluation.panoptic.panoptic_files import open_predictions
from kmax.evaluation.panoptic.segment_outcomes import SegmentOutcomes, find_outcomes
from kmax.evaluation.run.run_scores import PROTOCOL, Predictions, Score, Scores
from kmax.evaluation.run.score_files import draw_worst, headline, write_per_class, write_per_image
from kmax.evaluation.semantic import miou
from kmax.files import atomic_folder, write_json

logger = logging.getLogger(__name__)


def evaluate_run(run: Run, provenance: Mapping[str, Any]) -> Path:
    """Evaluate `results/<run>/predictions` and write `reports/metrics/<run>/{metrics.json,...}`.

    Args:
        provenance: what the caller knows about the run's identity (digests of run and parameters, commit); it
            is merged into the provenance in metrics.json. Equal input gives equal bytes.

    Returns:
        The path of metrics.json.

    Raises:
        InputError: predictions are missing or invalid.
    """
    predictions, explanation = _count_maps(run)
    scores: Scores = {}
    for evaluator in run.evaluate.evaluators():
        scores |= _function(evaluator.function)(predictions)
    metrics = _metrics(predictions, scores, provenance)
    for line in metrics["warnings"]:
        logger.warning("%s", line)
    pixels = next((one.pixels for one in scores.values() if one.pixels), predictions.pixels)
    write_per_class(paths.per_class(run.run), predictions.quality, pixels)
    write_per_image(paths.per_image(run.run), predictions.quality, pixels)
    with atomic_folder(paths.explanation(run.run)) as made:
        write_explanation(made, explanation)
        draw_worst(made / "worst", explanation, predictions)
    write_json(paths.scores(run.run), headline(metrics))
    write_json(paths.metrics(run.run), metrics)
    return paths.metrics(run.run)


def _function(name: str) -> Callable[..., Any]:
    """The function that the table of metrics names as `module:function`."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


@dataclass(frozen=True)
class _ImageCounts:
    """Counts of one image [C]; `more` are those of evaluators with a `count` function."""

    quality: pq.Counts
    pixels: miou.PixelCounts
    outcomes: SegmentOutcomes
    more: dict[str, Any]


def _count_maps(run: Run) -> tuple[Predictions, Explanation]:
    """The one pass over all panoptic maps: counts, and the error analysis."""
    prepared = open_prepared(run.data.dataset)
    split = prepared.split(run.data.val_split)
    folder = paths.predictions(run.run)
    predicted_json = folder / "panoptic.json"
    if not predicted_json.exists():
        raise InputError(f"{predicted_json}: predictions not found; run: kmax predict {run.run}")
    truth = read_panoptic_json(split.panoptic_json)
    images = select_images(truth.images, run.data.val_images, run.run)
    files = open_predictions(truth, images, split.panoptic_dir, predicted_json, folder / "panoptic")
    isthing = [category.isthing for category in files.categories]
    more = {one.value: _function(one.count) for one in run.evaluate.evaluators() if one.count}
    counts = count_images(files, partial(_count, isthing=isthing, more=more), workers=None)
    warnings = files.warnings.lines()
    whole = files.categories, [pair.image_id for pair in files.images]
    quality = pq.collect(*whole, [one.quality for one in counts], warnings)
    pixels = miou.collect(*whole, [one.pixels for one in counts], warnings)
    name = run.data.val_split
    predictions = Predictions(
        run,
        prepared,
        images,
        folder,
        files,
        replace(quality, provenance=files.provenance(pq.EVALUATOR, PROTOCOL, name)),
        replace(pixels, provenance=files.provenance(miou.EVALUATOR, miou.PROTOCOL, name)),
        {value: [one.more[value] for one in counts] for value in more},
    )
    return predictions, explain(*whole, [one.outcomes for one in counts])


def _count(image: ImageSegments, isthing: list[bool], more: Mapping[str, Callable[..., Any]]) -> _ImageCounts:
    size = len(isthing)
    matching = pq.match_segments(image, size)
    return _ImageCounts(
        pq.count(image, matching, size),
        miou.count_pixels(image, size),
        find_outcomes(image, matching),
        {name: count(image, isthing) for name, count in more.items()},
    )


def _metrics(
    predictions: Predictions, scores: Mapping[str, Score], provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of metrics.json."""
    run, quality = predictions.run, predictions.quality
    warnings = [*quality.warnings, *(line for score in scores.values() for line in score.warnings)]
    intervals = {name: score.intervals for name, score in scores.items() if score.intervals is not None}
    assert quality.provenance is not None
    return {
        **{name: score.figures for name, score in scores.items()},
        "warnings": list(dict.fromkeys(warnings)),
        "intervals": {"level": LEVEL, **predictions.bootstrap, **intervals},
        "provenance": {
            **provenance,
            "run": run.run,
            "evaluator": {name: score.figures["evaluator"] for name, score in scores.items()},
            "version": {name: score.figures["version"] for name, score in scores.items()},
            "protocol": PROTOCOL,
            "dataset": run.data.dataset,
            "split": run.data.val_split,
            "images": len(predictions.files.images),
            "ground_truth_digest": quality.provenance.ground_truth_digest,
            "predictions_digest": quality.provenance.predictions_digest,
            "data_digest": predictions.prepared.digest,
            "flavour": run.model.flavour,
        },
    }
