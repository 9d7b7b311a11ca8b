"""Error analysis: five parts that add up to 1, a confusion table, and the worst images."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from perfect_run import perfect_run

from kmax import paths
from kmax.data.datasets import open_prepared
from kmax.data.formats.coco_panoptic import CategoryFacts, read_map, write_map
from kmax.errors import InputWarnings
from kmax.evaluation.panoptic.explanation import PARTS, explain, write_explanation
from kmax.evaluation.panoptic.image_segments import ImageSegments, check_pair, read_pair
from kmax.evaluation.panoptic.pairs import count_pairs
from kmax.evaluation.panoptic.panoptic_files import ImagePair, open_files
from kmax.evaluation.panoptic.pq import count, match_segments
from kmax.evaluation.panoptic.segment_outcomes import Outcome, find_outcomes
from kmax.evaluation.run.evaluation_stage import evaluate_run

CATS, DOGS, SKY = (CategoryFacts(n, name, name != "sky") for n, name in enumerate(("cat", "dog", "sky"), 1))
CATEGORIES = [CATS, DOGS, SKY]


def image(truth: list[str], predicted: list[str], classes: dict[str, int], crowd: str = "") -> ImageSegments:
    """Maps in rows of letters, each a segment, "." void; `classes` by letter, for both maps."""

    def ids(rows: list[str]) -> np.ndarray:
        return np.array([[0 if letter == "." else ord(letter) for letter in row] for row in rows])

    def segments(values: np.ndarray) -> list[dict]:
        return [
            {
                "id": number,
                "category_id": classes[chr(number)],
                "area": area,
                "iscrowd": int(chr(number) in crowd),
            }
            for number, area in zip(*(a.tolist() for a in np.unique(values, return_counts=True)), strict=True)
            if number
        ]

    maps = ids(truth), ids(predicted)
    pair = ImagePair(1, Path("t"), Path("p"), segments(maps[0]), segments(maps[1]))
    return check_pair(pair, count_pairs(*maps), {1: 0, 2: 1, 3: 2}, InputWarnings())


def explained(*images: ImageSegments):
    size = len(CATEGORIES)
    rows = [find_outcomes(one, match_segments(one, size)) for one in images]
    return explain(CATEGORIES, list(range(len(images))), rows)


def found(one: ImageSegments) -> list[tuple[str, bool, int, int]]:
    """Outcome, side, category and other category of each row."""
    rows = find_outcomes(one, match_segments(one, len(CATEGORIES)))
    columns = (column.tolist() for column in (rows.outcome, rows.true, rows.category, rows.other))
    return [(Outcome(kind).name, *rest) for kind, *rest in zip(*columns, strict=True)]


@pytest.mark.parametrize(
    ("truth", "predicted", "expected"),
    [
        ("aaaa....", "AAA.....", [("MATCHED", True, 0, -1)]),
        ("aaaa....", "BBB.....", [("WRONG_CLASS", True, 0, 1), ("WRONG_CLASS", False, 1, 0)]),
        ("aaaa....", "AA......", [("POOR_MASK", True, 0, -1), ("POOR_MASK", False, 0, -1)]),
        ("aaaa....", "BB......", [("MISSED", True, 0, -1), ("SPURIOUS", False, 1, -1)]),
        ("aaaa....", "........", [("MISSED", True, 0, -1)]),
        ("ssssssss", "sssssssA", [("MATCHED", True, 2, -1), ("SPURIOUS", False, 0, -1)]),
        ("ssss....", "ssss.BBB", [("MATCHED", True, 2, -1)]),  # on void: not counted
        ("ssssCCCC", "ssssAAA.", [("MATCHED", True, 2, -1)]),  # on a crowd: not counted
    ],
)  # fmt: skip
def test_every_segment_has_one_outcome(truth: str, predicted: str, expected: list) -> None:
    classes = {"a": 1, "A": 1, "B": 2, "C": 1, "s": 3}
    assert found(image([truth], [predicted], classes, crowd="C")) == expected


def test_parts_are_those_of_the_formula() -> None:
    classes = {"a": 1, "A": 1, "B": 2, "s": 3}
    whole = explained(
        image(["aaaassss"], ["AAA.ssss"], classes),  # IoU 3/4
        image(["aaaassss"], ["BBBBssss"], classes),  # a cat predicted as a dog
        image(["aaaassss"], ["ssssssss"], classes),  # a cat predicted as sky: no separate mask
    )
    parts = {name: values[0].tolist() for name, values in whole.parts().items()}
    assert parts["pq"][:2] == [0.75 / 2, 0]
    assert parts["segmentation"][:2] == [0.25 / 2, 0]
    assert parts["classification"][:2] == [0.5 / 2, 1]
    assert parts["missed"][:2] == [0.5 / 2, 0]
    assert parts["spurious"][:2] == [0, 0]
    assert whole.group_parts()["things"]["all"]["classification"] == (0.25 + 1) / 2
    assert whole.group_parts()["things"]["large"]["n"] == 0
    assert whole.group_parts()["things"]["large"]["pq"] is None
    assert whole.confusion().tolist() == [[1, 1, 0, 1], [0, 0, 0, 0], [0, 0, 2, 1], [0, 0, 1, 0]]
    assert whole.worst() == [2, 1, 0]


def test_objects_have_the_sizes_of_coco() -> None:
    classes = {"a": 1, "b": 1, "c": 1}
    truth = ["a" * 64 * 64, "b" * 32 * 32 + "." * 3072, "c" * 31 * 33 + "." * 3073]
    one = image(truth, truth, classes)
    rows = find_outcomes(one, match_segments(one, len(CATEGORIES)))
    assert rows.size.tolist() == [1, 1, 0]


CASES = (
    "crowd",
    "iou_near_half",
    "gt_json_area_is_used",
    "gt_png_json_disagree",
    "void_overlap",
    "prediction_id_zero",
)


@pytest.mark.parametrize("case", CASES)
def test_parts_and_quality_add_up_to_one_under_odd_rules(golden: Path, case: str) -> None:
    folder = golden / "metrics/pq" / case
    files = open_files(folder / "gt.json", folder / "gt", folder / "pred.json", folder / "pred")
    classes = {category.id: index for index, category in enumerate(files.categories)}
    rows, totals = [], []
    for pair in files.images:
        one = read_pair(pair, classes, InputWarnings())
        matching = match_segments(one, len(classes))
        rows.append(find_outcomes(one, matching))
        totals.append(count(one, matching, len(classes)))
    whole = explain(files.categories, [pair.image_id for pair in files.images], rows)
    parts, segments = whole.parts(), whole.segments()
    occurs = sum(segments.values()) > 0
    np.testing.assert_allclose(sum(parts[name] for name in PARTS)[occurs], 1, atol=1e-12)
    tp, fp, fn, iou = (sum(getattr(c, name) for c in totals) for name in ("tp", "fp", "fn", "iou_sum"))
    assert (segments[Outcome.MATCHED][0] == tp).all()
    assert sum(segments.values())[0].tolist() == (tp + fp + fn).tolist()
    with np.errstate(invalid="ignore"):
        quality = np.nan_to_num(iou / (tp + fp / 2 + fn / 2))
    np.testing.assert_allclose(parts["pq"][0], quality, atol=1e-12)
    for name, values in parts.items():
        assert (values >= -1e-12).all() or name == "segmentation"  # an impossible area may give IoU above 1


def test_the_stage_explains_the_scores_and_draws_the_worst_images(tmp_path, monkeypatch, caplog) -> None:
    run = perfect_run(tmp_path, monkeypatch)
    spoiled = sorted((paths.predictions("small") / "panoptic").glob("*.png"))[1]
    ids = read_map(spoiled)
    first = json.loads((paths.predictions("small") / "panoptic.json").read_text())["annotations"][1]
    (large, *_) = sorted(first["segments_info"], key=lambda s: -(ids == s["id"]).sum())
    ids[(ids == large["id"]).cumsum().reshape(ids.shape) % 4 > 0] = 0  # three quarters of it are void
    write_map(spoiled, ids)
    evaluate_run(run, {})
    folder = paths.explanation("small")
    metrics, summary = (json.loads(p.read_text()) for p in (paths.metrics("small"), folder / "summary.json"))
    for group in ("all", "things", "stuff"):
        parts = summary["groups"][group]["all"]
        assert parts["pq"] == pytest.approx(metrics["pq"][group]["pq"], abs=1e-12)
        assert sum(parts[name] for name in PARTS) == pytest.approx(1, abs=1e-12)
    rows = list(csv.DictReader((folder / "images.csv").open()))
    assert float(rows[0]["quality"]) < 1 == float(rows[1]["quality"])
    worst = sorted(path.name for path in (folder / "worst").iterdir())
    assert worst[0] == f"1_{spoiled.stem}"
    assert len(worst) == 4
    for path in (folder / "worst").iterdir():
        assert {p.name for p in path.iterdir()} == {"image.jpg", "ground_truth.jpg", "prediction.jpg"}
    shutil.rmtree(open_prepared("shapes_small").split("val").images_dir)
    evaluate_run(run, {})
    assert "4 of the worst images are not found in" in caplog.text
    assert (folder / "worst" / worst[0] / "prediction.jpg").exists()


def test_nothing_to_explain_is_written_too(tmp_path: Path) -> None:
    write_explanation(tmp_path, explain(CATEGORIES, [], []))
    assert json.loads((tmp_path / "summary.json").read_text())["groups"]["all"]["all"]["pq"] is None
