"""95% intervals of scores by resampling images with replacement (percentile bootstrap).

The images are the sample, so a resample is a weight per image (how often it was drawn), and the sums over
images that every score is made of are one matrix product: S resamples cost S x I x C multiplications.

Legend of shapes: S resamples, I images, C categories.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kmax.evaluation.miou import MiouResult, PixelCounts
from kmax.evaluation.pq import GROUPS, Counts, PQResult

LEVEL = 0.95
# Resamples in memory at a time.
CHUNK = 250
Sums = TypeVar("Sums", Counts, PixelCounts)


def resample_weights(num_images: int, samples: int, seed: int) -> NDArray[np.float64]:
    """How often each image is drawn in each resample, float64 [S, I]; rows sum to I."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(num_images, np.full(num_images, 1 / num_images), samples).astype(np.float64)


def resampled(per_image: Sums, weights: NDArray[np.float64]) -> Sums:
    """Sums over the images of each resample: [I, C] -> [S, C]."""
    return replace(per_image, **{f.name: weights @ getattr(per_image, f.name) for f in fields(per_image)})


def pq_samples(result: PQResult, weights: NDArray[np.float64]) -> dict[str, dict[str, NDArray[np.float64]]]:
    """PQ, SQ and RQ of each resample [S] per group; nan where no category of the group was drawn."""
    counts = resampled(result.per_image, weights)
    scores = dict(zip(("pq", "sq", "rq"), counts.scores(), strict=True))
    occurs = counts.occurs()
    return {
        group: {name: _mean(values[:, members], occurs[:, members]) for name, values in scores.items()}
        for group, members in ((group, result.members(group)) for group in GROUPS)
    }


def miou_samples(result: MiouResult, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean IoU of each resample [S]."""
    iou = resampled(result.per_image, weights).iou()
    return _mean(np.nan_to_num(iou), ~np.isnan(iou))


def intervals(pq: PQResult | None, miou: MiouResult | None, *, samples: int, seed: int) -> dict[str, Any]:
    """95% intervals [low, high] of the groups' PQ, SQ, RQ and of mean IoU; None where a group is empty.

    The same resamples serve both metrics. Equal seeds give equal intervals.
    """
    result: dict[str, Any] = {"level": LEVEL, "samples": samples, "seed": seed}
    num_images = len((pq or miou).image_ids) if pq or miou else 0  # type: ignore[union-attr]
    if num_images == 0:
        return result
    weights = resample_weights(num_images, samples, seed)
    chunks = np.split(weights, range(CHUNK, samples, CHUNK))
    if pq is not None:
        parts = [pq_samples(pq, chunk) for chunk in chunks]
        result["pq"] = {
            group: {
                name: interval(np.concatenate([p[group][name] for p in parts])) for name in ("pq", "sq", "rq")
            }
            for group in GROUPS
        }
    if miou is not None:
        result["miou"] = interval(np.concatenate([miou_samples(miou, chunk) for chunk in chunks]))
    return result


def interval(values: NDArray[np.float64]) -> list[float] | None:
    """The central 95% of the values; nan is left out, None if nothing is left."""
    values = values[~np.isnan(values)]
    if not values.size:
        return None
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]


def _mean(values: NDArray[np.float64], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean over the chosen entries of each row; nan where a row has none."""
    count = chosen.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, (values * chosen).sum(1) / count, np.nan)
