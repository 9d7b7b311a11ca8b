"""Two runs: differences, intervals and p-values, and what cannot be compared."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kmax import paths
from kmax.cli.main import call
from kmax.data.formats.coco_panoptic import CategoryFacts
from kmax.errors import InputError
from kmax.evaluation.panoptic.pq import Counts, PQResult
from kmax.evaluation.run.compare_runs import compare
from kmax.evaluation.run.evaluated_run import Evaluated, read_evaluated
from kmax.evaluation.run.score_files import write_per_class, write_per_image
from kmax.evaluation.semantic.miou import MiouResult, PixelCounts

CATEGORIES = [CategoryFacts(number, f"c{number}", number < 6) for number in range(8)]
DIGEST = "a" * 64


def model(rng: np.random.Generator, segments: np.ndarray, skill: float) -> tuple[PQResult, MiouResult]:
    """Counts of a model that finds a share of the segments per image and category."""
    tp = rng.binomial(segments, skill)
    fp = rng.poisson(0.1, segments.shape)
    iou = np.clip(0.8 + rng.normal(0, 0.05, segments.shape), 0.51, 1) * tp
    counts = Counts(*(np.asarray(a, float) for a in (iou, tp, fp, segments - tp)))
    pixels = PixelCounts(80.0 * tp, 100.0 * segments, 90.0 * (tp + fp))
    ids = list(range(len(segments)))
    return PQResult(CATEGORIES, ids, counts, []), MiouResult(CATEGORIES, ids, pixels, [])


def evaluated(rng: np.random.Generator, segments: np.ndarray, skill: float = 0.6) -> Evaluated:
    return Evaluated("run", *model(rng, segments, skill), {}, {}, "")


def test_p_values_are_uniform_and_intervals_cover_where_there_is_no_difference() -> None:
    rng = np.random.default_rng(0)
    p_values, covered = [], []
    for seed in range(250):
        segments = rng.poisson(rng.uniform(0.1, 0.8, len(CATEGORIES)), (40, len(CATEGORIES)))
        found = compare(*(evaluated(rng, segments) for _ in range(2)), samples=99, seed=seed).differences
        chosen = [found[key] for key in (("all", "pq"), ("all", "sq"), ("miou", "miou"))]
        p_values.append([one.p for one in chosen])
        covered.append([one.interval[0] <= 0 <= one.interval[1] for one in chosen])
    # Binomial spread of 250 trials: 0.014 at 0.05, 0.032 at 0.5.
    assert (np.abs(np.mean(np.array(p_values) <= 0.05, axis=0) - 0.05) < 0.05).all()
    assert (np.abs(np.mean(np.array(p_values) <= 0.5, axis=0) - 0.5) < 0.12).all()
    assert (np.mean(covered, axis=0) > 0.86).all()


def test_a_better_run_is_detected_and_swapping_the_runs_flips_the_sign() -> None:
    rng = np.random.default_rng(1)
    segments = rng.poisson(0.5, (150, len(CATEGORIES)))
    worse, better = evaluated(rng, segments, 0.5), evaluated(rng, segments, 0.7)
    found = compare(worse, better, samples=300, seed=0).differences["all", "pq"]
    assert found.difference == found.second - found.first > 0
    assert 0 < found.interval[0] < found.difference < found.interval[1]
    assert found.p == 1 / 301
    turned = compare(better, worse, samples=300, seed=0).differences["all", "pq"]
    assert turned.interval == pytest.approx([-end for end in reversed(found.interval)])
    assert turned.p == found.p


def test_a_run_equals_itself() -> None:
    run = evaluated(np.random.default_rng(2), np.ones((9, len(CATEGORIES)), int))
    for one in compare(run, run, samples=50, seed=0).differences.values():
        assert (one.difference, one.interval, one.p) == (0.0, [0.0, 0.0], 1.0)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes the outputs of the evaluate stage of a run; keyword arguments change its provenance."""
    monkeypatch.chdir(tmp_path)

    def write(run: str, seed: int, miou: str = "miou", **changed: Any) -> None:
        segments = np.random.default_rng(3).poisson(0.5, (30, len(CATEGORIES)))
        quality, pixels = model(np.random.default_rng(seed), segments, 0.6)
        paths.metrics_folder(run).mkdir(parents=True)
        write_per_class(paths.per_class(run), quality, pixels)
        write_per_image(paths.per_image(run), quality, pixels)
        provenance = {"dataset": "d", "split": "val", "images": 30, "ground_truth_digest": DIGEST}
        provenance |= {"evaluator": {"pq": "e"}, "version": {"pq": "1"}, "predictions_digest": run} | changed
        metrics = {miou: {"evaluator": "m", "version": "1"}, "provenance": provenance}
        paths.metrics(run).write_text(json.dumps(metrics))

    return write


def test_the_verb_prints_a_table_and_writes_the_same_figures(write, capsys) -> None:
    write("a", 1)
    write("b", 2)
    assert call(["compare", "a", "b", "--samples", "60", "--out", "out.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "out.json"
    figures = json.loads(Path("out.json").read_text())
    assert figures["runs"] == ["a", "b"]
    one = figures["pq"]["all"]["pq"]
    (row,) = (line for line in lines if line.startswith("PQ all"))
    assert f"{100 * one['difference']:+.2f}" in row
    assert f"{one['p']:.4f}" in row
    assert figures["miou"]["first"] == read_evaluated("a").miou.to_json()["miou"]
    assert figures["provenance"]["ground_truth_digest"] == DIGEST


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"split": "test"}, "split: val and test"),
        ({"ground_truth_digest": "b" * 64}, "ground truth digest: aaaaaaaaaaaa... and bbbbbbbbbbbb..."),
        ({"evaluator": {"pq": "other"}, "version": {"pq": "2"}}, "evaluator: e and other; version: 1 and 2"),
    ],
)
def test_runs_evaluated_differently_give_a_one_line_error(write, capsys, changed, message) -> None:
    write("a", 1)
    write("b", 2, **changed)
    assert call(["compare", "a", "b"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"a and b cannot be compared: {message}" in line


def test_mean_iou_of_other_pixels_is_omitted_with_a_note(write) -> None:
    write("a", 1)
    write("b", 2, miou="miou_panoptic")
    found = compare(read_evaluated("a"), read_evaluated("b"), samples=20, seed=0)
    assert found.notes == ["mean IoU is not compared: figure: miou and miou_panoptic"]
    assert found.to_json()["miou"] is None


def test_missing_or_corrupt_files_give_a_one_line_error(write) -> None:
    write("a", 1)
    with pytest.raises(InputError, match="run 'b' has not been evaluated; run: kmax evaluate b"):
        read_evaluated("b")
    with open(paths.per_class("a")) as stream:
        rows = list(csv.reader(stream))
    paths.per_class("a").write_text("\n".join(",".join(row) for row in rows[:-1]))
    with pytest.raises(InputError, match="does not belong to the same evaluation"):
        read_evaluated("a")
    paths.per_image("a").write_bytes(b"PK")
    with pytest.raises(InputError, match="counts per image cannot be read"):
        read_evaluated("a")
