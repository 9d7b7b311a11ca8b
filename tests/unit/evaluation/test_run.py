"""The evaluate stage: one JSON with scores, intervals and provenance; equal input gives equal bytes."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from perfect_run import perfect_run

from kmax import paths
from kmax.config import Run
from kmax.data.formats import coco_json, json_stream
from kmax.errors import InputError
from kmax.evaluation.run.evaluation_stage import evaluate_run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose predictions are its ground truth."""
    return perfect_run(tmp_path, monkeypatch)


def test_ground_truth_as_prediction_scores_one(run: Run) -> None:
    metrics = json.loads(evaluate_run(run, {"commit": "abc"}).read_text())
    assert metrics["pq"]["all"]["pq"] == 1.0
    assert metrics["miou"]["miou"] == metrics["miou_panoptic"]["miou"] == 1.0
    assert metrics["ap"]["ap"] == metrics["ap_box"]["ap"] == 1.0
    assert metrics["intervals"]["pq"]["all"]["pq"] == [1.0, 1.0]
    for name in ("pq", "ap", "ap_box", "miou", "miou_panoptic"):
        provenance = metrics[name]["provenance"]
        assert provenance["images"] == 4
        assert provenance["split"] == "val"
        assert provenance["protocol"]
        assert len(provenance["ground_truth_digest"]) == len(provenance["predictions_digest"]) == 64
    provenance = metrics["provenance"]
    assert provenance["commit"] == "abc"
    assert provenance["images"] == 4
    assert provenance["flavour"] == "tf"
    assert len(provenance["ground_truth_digest"]) == len(provenance["predictions_digest"]) == 64


def test_each_panoptic_json_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = ["pq", "pq_deeplab2", "miou_panoptic", "ceiling"]
    run = perfect_run(tmp_path, monkeypatch, metrics=metrics)
    parsed: list[str] = []
    entries, read_json = json_stream.entries, coco_json.read_json

    def streamed(path: Path, what: str, inside: set[str]) -> Iterator[tuple[str, Any]]:
        parsed.append(path.name)
        return entries(path, what, inside)

    def whole(path: Path, what: str) -> Any:
        parsed.append(path.name)
        return read_json(path, what)

    monkeypatch.setattr(json_stream, "entries", streamed)
    monkeypatch.setattr(coco_json, "read_json", whole)
    scores = json.loads(evaluate_run(run, {}).read_text())
    assert {name for name in metrics if name in scores} == set(metrics)
    assert parsed == ["panoptic_val.json", "panoptic.json"]


def test_equal_input_gives_equal_bytes(run: Run) -> None:
    folder = paths.metrics_folder("small")
    evaluate_run(run, {})

    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    before = contents()
    top = {"metrics.json", "scores.json", "per_class.csv", "per_image.npz", "explanation"}
    assert {path.name for path in folder.iterdir()} == top
    evaluate_run(run, {})
    assert contents() == before


def test_counts_per_image_add_up_to_the_scores(run: Run) -> None:
    metrics = json.loads(evaluate_run(run, {}).read_text())
    counts = np.load(paths.per_image("small"))
    assert counts["tp"].shape == (len(counts["image_ids"]), len(counts["category_ids"]))
    for index, category in enumerate(counts["category_ids"]):
        assert metrics["pq"]["per_category"][str(category)]["tp"] == counts["tp"][:, index].sum()
    rows = list(csv.DictReader(paths.per_class("small").open()))
    assert [int(row["tp"]) for row in rows] == counts["tp"].sum(0).tolist()


def test_only_listed_images_and_metrics_count(run: Run) -> None:
    names = json.loads((paths.predictions("small") / "panoptic.json").read_text())["images"]
    data = run.data.model_copy(update={"val_images": [names[2]["file_name"]]})
    evaluate = run.evaluate.model_copy(update={"metrics": ["pq"], "ap": None, "miou": None})
    chosen = run.model_copy(update={"data": data, "evaluate": evaluate})
    metrics = json.loads(evaluate_run(chosen, {}).read_text())
    assert metrics["provenance"]["images"] == 1
    assert not {"ap", "miou", "miou_panoptic"} & metrics.keys()
    assert not {"miou", "miou_panoptic"} & metrics["intervals"].keys()


def test_both_rules_of_panoptic_quality_are_named(run: Run) -> None:
    evaluate = run.evaluate.model_copy(update={"metrics": ["pq", "pq_deeplab2"]})
    metrics = json.loads(evaluate_run(run.model_copy(update={"evaluate": evaluate}), {}).read_text())
    assert metrics["pq_deeplab2"]["all"]["pq"] == 1.0
    evaluators = metrics["provenance"]["evaluator"]
    assert "panopticapi" in evaluators["pq"]
    assert "deeplab2" in evaluators["pq_deeplab2"]


def test_missing_predictions_name_the_command_that_makes_them(run: Run) -> None:
    shutil.rmtree(paths.predictions("small"))
    with pytest.raises(InputError, match="kmax predict small"):
        evaluate_run(run, {})
