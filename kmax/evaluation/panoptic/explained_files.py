"""Panoptic quality of prediction files together with where it is lost."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from kmax.evaluation.panoptic import pq
from kmax.evaluation.panoptic.explanation import Explanation, explain
from kmax.evaluation.panoptic.image_segments import Matchable
from kmax.evaluation.panoptic.panoptic_files import PanopticArguments
from kmax.evaluation.panoptic.segment_outcomes import Outcomes, outcomes
from kmax.evaluation.panoptic.stream import read_all


def evaluate_files(arguments: PanopticArguments) -> tuple[pq.PQResult, Explanation]:
    """Panoptic quality and its explanation; errors as `pq.evaluate_files`."""
    files = arguments.open()
    count = partial(_count, num_categories=len(files.categories))
    results = read_all(files, count, arguments.workers, arguments.strict)
    images = files.categories, [image.image_id for image in files.images]
    quality = pq.collect(*images, [counts for counts, _ in results], files.oddities.lines())
    provenance = files.provenance(pq.EVALUATOR, pq.PROTOCOL, arguments.split)
    return replace(quality, provenance=provenance), explain(*images, [rows for _, rows in results])


def _count(image: Matchable, num_categories: int) -> tuple[pq.Counts, Outcomes]:
    matching = pq.match_segments(image, num_categories)
    return pq.count(image, matching, num_categories), outcomes(image, matching)
