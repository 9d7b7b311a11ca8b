"""95% intervals of scores by resampling images with replacement (bootstrap).

The images are the sample, so a resample is a weight per image (how often it was drawn). Every score is
computed from sums over images, which are one matrix product: S resamples cost S x I x C multiplications.

Resamples are scored as the evaluators score: a category that was not drawn is excluded from the means, and
one that was drawn without any match has SQ 0. With few images, rare categories often lose their matches, so
resamples score lower than the images themselves, SQ most of all. Intervals are therefore the percentiles of
the resampled scores, moved by the mean of that loss (the bootstrap's estimate of bias), within 0..1.

Legend of shapes: S resamples, I images, C categories.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kmax.data.formats.coco_panoptic import CategoryFacts
from kmax.evaluation.panoptic.pq import GROUPS, Counts, PQResult, members
from kmax.evaluation.semantic.miou import AVERAGES, MiouResult, PixelCounts

LEVEL = 0.95
SCORES = ("pq", "sq", "rq")
# Resamples in memory at a time.
CHUNK = 250
Values = NDArray[np.float64]
Samples = dict[tuple[str, str], Values]
Sums = TypeVar("Sums", Counts, PixelCounts)


def resample_weights(num_images: int, samples: int, seed: int) -> Values:
    """How often each image is drawn in each resample, float64 [S, I]; rows sum to I."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(num_images, np.full(num_images, 1 / num_images), samples).astype(np.float64)


def resampled(per_image: Sums, weights: Values) -> Sums:
    """Sums over the images of each resample: [I, C] -> [S, C]."""
    return replace(per_image, **{f.name: weights @ getattr(per_image, f.name) for f in fields(per_image)})


def pq_scores(counts: Counts, categories: Sequence[CategoryFacts]) -> Samples:
    """PQ, SQ and RQ [S] per group, from counts [S, C]; nan where no category of the group occurs."""
    scores = dict(zip(SCORES, counts.scores(), strict=True))
    occurs = counts.occurs()
    return {
        (group, name): _mean(values[:, chosen], occurs[:, chosen])
        for group, chosen in ((group, members(categories, group)) for group in GROUPS)
        for name, values in scores.items()
    }


def miou_scores(counts: PixelCounts) -> Values:
    """Mean IoU [S], from counts [S, C]; nan where nothing occurs."""
    iou = counts.iou()
    return _mean(np.nan_to_num(iou), ~np.isnan(iou))


def pq_intervals(pq: PQResult, *, samples: int, seed: int) -> dict[str, Any]:
    """95% intervals [low, high] of the groups' PQ, SQ and RQ; None where a group is empty.

    Equal seeds give equal resamples, for all metrics of the same images.
    """
    weights = resample_weights(len(pq.image_ids), samples, seed)
    found = in_chunks(lambda chunk: pq_scores(resampled(pq.per_image, chunk), pq.categories), weights)
    return {
        group: {name: interval(found[group, name], pq.group(group)[name]) for name in SCORES}
        for group in GROUPS
    }


def miou_interval(miou: MiouResult, *, samples: int, seed: int) -> list[float] | None:
    """The 95% interval [low, high] of mean IoU; None where nothing occurs. Seeds as for `pq_intervals`."""
    weights = resample_weights(len(miou.image_ids), samples, seed)
    values = in_chunks(lambda chunk: {(): miou_scores(resampled(miou.per_image, chunk))}, weights)
    return interval(values[()], miou.counts().averages()[AVERAGES[0]])


Key = TypeVar("Key")


def in_chunks(scores: Callable[[Values], dict[Key, Values]], weights: Values) -> dict[Key, Values]:
    """`scores` of all rows of `weights`, a few rows at a time."""
    parts = [scores(chunk) for chunk in np.split(weights, range(CHUNK, len(weights), CHUNK))]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def interval(values: Values, estimate: float | None) -> list[float] | None:
    """The 95% interval of a score, a fraction; None if there is none.

    Args:
        values: of the resamples; nan is ignored.
        estimate: of the images themselves.
    """
    ends = central(values, estimate)
    return None if ends is None else [min(max(end, 0.0), 1.0) for end in ends]


def central(values: Values, estimate: float | None) -> list[float] | None:
    """The central 95% of the values, moved so that their mean is `estimate`; None if there is nothing."""
    values = values[~np.isnan(values)]
    if not values.size or estimate is None:
        return None
    ends = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - values.mean() + estimate
    return [float(end) for end in ends]


def _mean(values: Values, chosen: NDArray[np.bool_]) -> Values:
    """Mean over the chosen entries of each row; nan where a row has none."""
    count = chosen.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, (values * chosen).sum(1) / count, np.nan)
