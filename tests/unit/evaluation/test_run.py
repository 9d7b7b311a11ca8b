"""The evaluate stage: one JSON with scores, intervals and provenance; equal input gives equal bytes."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from kmax import paths
from kmax.config import Run
from kmax.data.datasets import open_prepared
from kmax.data.download import download
from kmax.data.prepare import prepare
from kmax.errors import InputError
from kmax.evaluation.run import evaluate_run
from kmax.runs import load_run

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose predictions are its ground truth."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    dataset = yaml.safe_load(Path("params/datasets/shapes_smoke.yaml").read_text())
    dataset["dataset"], dataset["source"]["images"] = "shapes_small", {"train": 1, "val": 4}
    Path("params/datasets/shapes_small.yaml").write_text(yaml.safe_dump(dataset))
    content = yaml.safe_load(Path("params/runs/shapes-smoke.yaml").read_text())
    content["run"], content["data"]["dataset"] = "small", "shapes_small"
    Path("params/runs/small.yaml").write_text(yaml.safe_dump(content))
    download("shapes_small")
    prepare("shapes_small", workers=1)
    split = open_prepared("shapes_small").splits["val"]
    shutil.copytree(split.panoptic_dir, paths.predictions("small") / "panoptic")
    shutil.copy(split.panoptic_json, paths.predictions("small") / "panoptic.json")
    return load_run("small")


def test_ground_truth_as_prediction_scores_one(run: Run) -> None:
    metrics = json.loads(evaluate_run(run, {"commit": "abc"}).read_text())
    assert metrics["pq"]["all"]["pq"] == 1.0
    assert metrics["miou"]["miou"] == 1.0
    assert metrics["intervals"]["pq"]["all"]["pq"] == [1.0, 1.0]
    provenance = metrics["provenance"]
    assert provenance["commit"] == "abc"
    assert provenance["images"] == 4
    assert provenance["flavour"] == "tf"
    assert len(provenance["ground_truth_digest"]) == len(provenance["predictions_digest"]) == 64


def test_equal_input_gives_equal_bytes(run: Run) -> None:
    folder = paths.metrics_folder("small")
    evaluate_run(run, {})
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(before) == {"metrics.json", "scores.json", "per_class.csv", "per_image.npz"}
    evaluate_run(run, {})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


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
    evaluate = run.evaluate.model_copy(update={"metrics": ["pq"]})
    chosen = run.model_copy(update={"data": data, "evaluate": evaluate})
    metrics = json.loads(evaluate_run(chosen, {}).read_text())
    assert metrics["provenance"]["images"] == 1
    assert "miou" not in metrics
    assert "miou" not in metrics["intervals"]


def test_both_rules_of_panoptic_quality_are_named(run: Run) -> None:
    evaluate = run.evaluate.model_copy(update={"metrics": ["pq", "pq_deeplab2"]})
    metrics = json.loads(evaluate_run(run.model_copy(update={"evaluate": evaluate}), {}).read_text())
    assert metrics["pq_deeplab2"]["all"]["pq"] == 1.0
    evaluators = metrics["provenance"]["evaluator"]
    assert "panopticapi" in evaluators["pq"]
    assert "deeplab2" in evaluators["pq_deeplab2"]


def test_missing_predictions_say_how_to_make_them(run: Run) -> None:
    shutil.rmtree(paths.predictions("small"))
    with pytest.raises(InputError, match="kmax predict small"):
        evaluate_run(run, {})
