"""Panoptic quality of prediction files together with where it is lost."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from kmax.evaluation import pq
from kmax.evaluation.explanation import Explanation, explain
from kmax.evaluation.files import open_files
from kmax.evaluation.matchable import Matchable
from kmax.evaluation.outcomes import Outcomes, outcomes
from kmax.evaluation.stream import read_all


def evaluate_files(
    gt_json: Path,
    gt_dir: Path,
    pred_json: Path,
    pred_dir: Path,
    workers: int | None = 1,
    strict: bool = False,
    split: str | None = None,
) -> tuple[pq.PQResult, Explanation]:
    """Panoptic quality and its explanation; arguments and errors as `pq.evaluate_files`."""
    files = open_files(gt_json, gt_dir, pred_json, pred_dir)
    results = read_all(files, partial(_count, num_categories=len(files.categories)), workers, strict)
    arguments = files.categories, [image.image_id for image in files.images]
    quality = pq.collect(*arguments, [counts for counts, _ in results], files.oddities.lines())
    provenance = files.provenance(pq.EVALUATOR, pq.PROTOCOL, split)
    return replace(quality, provenance=provenance), explain(*arguments, [rows for _, rows in results])


def _count(image: Matchable, num_categories: int) -> tuple[pq.Counts, Outcomes]:
    matching = pq.match_segments(image, num_categories)
    return pq.count(image, matching, num_categories), outcomes(image, matching)
