"""Differences of the scores of two runs on the same images, with intervals and p-values.

Intervals are from a paired bootstrap: both runs are scored on the same resamples of the images. P-values are
from a paired randomisation test. If the runs are equally good, the two results of an image are exchangeable,
so each image's results are exchanged with probability 1/2; p is the share of such exchanges whose difference,
in either direction, is at least as large as the observed one.

Legend of shapes: S resamples, I images, C categories.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from kmax.evaluation.bootstrap import (
    LEVEL,
    SCORES,
    Sums,
    Values,
    central,
    in_chunks,
    miou_scores,
    pq_scores,
    resample_weights,
    resampled,
)
from kmax.evaluation.panoptic.pq import GROUPS
from kmax.evaluation.run.evaluated_run import Evaluated

# Differences that differ by less are equal but for rounding.
ROUNDING = 1e-12
MIOU = ("miou", "miou")


@dataclass(frozen=True)
class Difference:
    """One score of two runs, as fractions.

    Attributes:
        first, second: the runs' scores.
        difference: second minus first.
        interval: 95% interval of the difference.
        p: two-sided p-value of "the runs are equally good".
    """

    first: float
    second: float
    difference: float
    interval: list[float]
    p: float


@dataclass(frozen=True)
class Comparison:
    """Result of `compare`.

    Attributes:
        differences: by group ("all", "things", "stuff") and score ("pq", "sq", "rq"), and for
            ("miou", "miou"), where both runs have the score.
        notes: scores that could not be compared, with the reason.
    """

    first: Evaluated
    second: Evaluated
    samples: int
    seed: int
    differences: dict[tuple[str, str], Difference]
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """All figures, with their provenance."""
        found = {key: asdict(value) for key, value in self.differences.items()}
        pq = {group: {name: found.get((group, name)) for name in SCORES} for group in GROUPS}
        return {
            "runs": [self.first.run, self.second.run],
            "difference": "second minus first",
            "interval": "paired bootstrap over images",
            "p": "paired randomisation of images, two-sided",
            "level": LEVEL,
            "samples": self.samples,
            "seed": self.seed,
            "pq": pq,
            "miou": found.get(MIOU),
            "notes": self.notes,
            "provenance": {
                **self.first.common(),
                "predictions_digests": [run.predictions_digest for run in (self.first, self.second)],
            },
        }


def compare(first: Evaluated, second: Evaluated, *, samples: int, seed: int) -> Comparison:
    """Compare two runs; equal seeds give equal figures.

    Raises:
        InputError: images, ground truth or evaluator of the runs differ.
    """
    notes = first.require_comparable(second)
    images = len(first.pq.image_ids)
    drawn = resample_weights(images, samples, seed)
    coins = np.random.default_rng([seed, 1]).integers(0, 2, drawn.shape).astype(np.float64)
    categories = first.pq.categories
    found = _differences(
        first.pq.per_image,
        second.pq.per_image,
        lambda counts: pq_scores(counts, categories),
        drawn,
        coins,
    )
    if first.miou is not None and second.miou is not None and not notes:
        found |= _differences(
            first.miou.per_image,
            second.miou.per_image,
            lambda counts: {MIOU: miou_scores(counts)},
            drawn,
            coins,
        )
    return Comparison(first, second, samples, seed, found, notes)


def _differences(
    first: Sums,
    second: Sums,
    scores: Callable[[Sums], dict[tuple[str, str], Values]],
    drawn: Values,
    coins: Values,
) -> dict[tuple[str, str], Difference]:
    """Differences of the scores of two runs' counts [I, C]; scores that a run lacks are omitted.

    Args:
        drawn: how often each image is in each resample [S, I].
        coins: 1 where an image's results are exchanged, else 0 [S, I].
    """
    whole = np.ones((1, drawn.shape[1]))
    totals = tuple(resampled(counts, whole) for counts in (first, second))
    ours, theirs = (scores(total) for total in totals)
    other = in_chunks(lambda chunk: _subtract(scores, *(resampled(c, chunk) for c in (second, first))), drawn)

    def exchanged(chunk: Values) -> dict[tuple[str, str], Values]:
        moved = _each(lambda a, b: chunk @ (b - a), first, second)
        return _subtract(
            scores,
            _each(lambda b, m: b - m, totals[1], moved),
            _each(lambda a, m: a + m, totals[0], moved),
        )

    null = in_chunks(exchanged, coins)
    result = {}
    for key, one in ours.items():
        difference = float(theirs[key][0] - one[0])
        interval = None if np.isnan(difference) else central(other[key], difference)
        if interval is not None:
            # Exchanges that leave a group empty count as extreme; they occur only with few images.
            extreme = ~(np.abs(null[key]) < abs(difference) - ROUNDING)
            p = (1 + int(extreme.sum())) / (1 + len(extreme))
            result[key] = Difference(float(one[0]), float(theirs[key][0]), difference, interval, p)
    return result


def _subtract(
    scores: Callable[[Sums], dict[tuple[str, str], Values]], left: Sums, right: Sums
) -> dict[tuple[str, str], Values]:
    minuend, subtrahend = scores(left), scores(right)
    return {key: values - subtrahend[key] for key, values in minuend.items()}


def _each(function: Callable[[Values, Values], Values], left: Sums, right: Sums) -> Sums:
    """Apply the function to each pair of fields."""
    return type(left)(*(function(getattr(left, f.name), getattr(right, f.name)) for f in fields(left)))
