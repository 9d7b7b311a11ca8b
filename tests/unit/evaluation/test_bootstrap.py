import numpy as np

from kmax.data.formats.coco_panoptic import CategoryFacts
from kmax.evaluation.bootstrap import (
    interval,
    miou_interval,
    miou_scores,
    pq_intervals,
    pq_scores,
    resample_weights,
    resampled,
)
from kmax.evaluation.panoptic.pq import Counts, PQResult
from kmax.evaluation.semantic.miou import MiouResult, PixelCounts

CATEGORIES = [CategoryFacts(1, "a", True), CategoryFacts(2, "b", True), CategoryFacts(3, "c", False)]


def results(images: int, seed: int = 0) -> tuple[PQResult, MiouResult]:
    rng = np.random.default_rng(seed)
    tp, fp, fn = rng.integers(0, 4, (3, images, len(CATEGORIES))).astype(float)
    counts = Counts(tp * rng.uniform(0.5, 1, tp.shape), tp, fp, fn)
    truth = rng.integers(0, 50, tp.shape).astype(float)
    pixels = PixelCounts(np.floor(truth * 0.7), truth, truth)
    ids = list(range(images))
    return PQResult(CATEGORIES, ids, counts, []), MiouResult(CATEGORIES, ids, pixels, [])


def test_every_image_once_gives_the_score_itself() -> None:
    pq, miou = results(20)
    once = np.ones((1, 20))
    for (group, name), values in pq_scores(resampled(pq.per_image, once), CATEGORIES).items():
        np.testing.assert_allclose(values, pq.group(group)[name], rtol=1e-12)
    again = miou_scores(resampled(miou.per_image, once))
    np.testing.assert_allclose(again, miou.to_json()["miou"], rtol=1e-12)


def test_a_resample_equals_evaluating_its_images() -> None:
    pq, _ = results(12)
    weights = resample_weights(12, 5, seed=3)
    assert (weights.sum(1) == 12).all()
    samples = pq_scores(resampled(pq.per_image, weights), CATEGORIES)
    for number, row in enumerate(weights.astype(int)):
        drawn = np.repeat(np.arange(12), row)
        names = ("iou_sum", "tp", "fp", "fn")
        counts = Counts(*(getattr(pq.per_image, name)[drawn] for name in names))
        again = PQResult(CATEGORIES, drawn.tolist(), counts, [])
        for (group, name), values in samples.items():
            np.testing.assert_allclose(values[number], again.group(group)[name], rtol=1e-12)


def test_intervals_hold_the_score_and_shrink_with_more_images() -> None:
    widths = []
    for images in (30, 3000):
        pq, miou = results(images)
        low, high = miou_interval(miou, samples=600, seed=0)
        assert low <= miou.to_json()["miou"] <= high
        low, high = pq_intervals(pq, samples=600, seed=0)["all"]["pq"]
        assert low <= pq.group("all")["pq"] <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 5


def test_equal_seeds_give_equal_intervals() -> None:
    pq, miou = results(25)
    for intervals, result in ((pq_intervals, pq), (miou_interval, miou)):
        first, again, other = (intervals(result, samples=50, seed=seed) for seed in (4, 4, 5))
        assert first == again != other


def test_an_empty_group_has_no_interval() -> None:
    pq, _ = results(5)
    pq.per_image.tp[:, 2] = pq.per_image.fp[:, 2] = pq.per_image.fn[:, 2] = 0
    assert pq_intervals(pq, samples=20, seed=0)["stuff"] == {"pq": None, "sq": None, "rq": None}
    assert interval(np.array([np.nan]), 0.5) is None


def test_intervals_hold_scores_that_resamples_rarely_reach() -> None:
    """Every category is found once in few images: most resamples lose some, and their SQ with them."""
    images = 30
    counts = Counts(*np.zeros((4, images, len(CATEGORIES))))
    counts.fn[:] = 1
    for category in range(len(CATEGORIES)):
        counts.tp[category, category], counts.iou_sum[category, category] = 1, 0.8
    pq = PQResult(CATEGORIES, list(range(images)), counts, [])
    low, high = pq_intervals(pq, samples=400, seed=0)["all"]["sq"]
    assert low < pq.group("all")["sq"] < high <= 1
