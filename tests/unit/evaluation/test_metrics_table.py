"""The table of metrics: its functions exist, and a new evaluator is one function and one entry."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from perfect_run import perfect_run
from pydantic import ValidationError

from kmax import paths
from kmax.config import Evaluate, Predict
from kmax.config import run as run_module
from kmax.config.metrics import EVALUATORS, METRICS, Evaluator, HeadlineFigure, Metric
from kmax.evaluation.run.evaluation_stage import evaluate_run
from kmax.evaluation.run.run_scores import Predictions, Score
from kmax.reporting import report


@pytest.mark.parametrize("evaluator", EVALUATORS, ids=lambda one: f"{one.option}-{one.value}")
def test_functions_named_in_the_table_exist(evaluator: Evaluator) -> None:
    for name in filter(None, (evaluator.function, evaluator.count)):
        module, function = name.split(":")
        assert callable(getattr(importlib.import_module(module), function))
    assert set(evaluator.needs) <= Predict.model_fields.keys()


def test_names_are_unique() -> None:
    figures = [figure.name for metric in METRICS.values() for figure in metric.headline]
    assert len(set(figures)) == len(figures)
    assert len({(one.option, one.value) for one in EVALUATORS}) == len(EVALUATORS)


def test_run_files_accept_only_the_values_of_the_table() -> None:
    bootstrap = {"bootstrap_samples": 1, "bootstrap_seed": 0}
    for one in EVALUATORS:
        entry = {one.option: [one.value] if one.option == "metrics" else one.value}
        section = Evaluate.model_validate({"metrics": ["pq"], **bootstrap, **entry})
        assert one in section.evaluators()
    for wrong in ({"metrics": ["qp"]}, {"ap": "pq"}, {"miou": "coco"}):
        with pytest.raises(ValidationError, match="Input should be"):
            Evaluate.model_validate({"metrics": ["pq"], **bootstrap, **wrong})


def test_a_new_evaluator_is_a_function_and_an_entry(tmp_path: Path, monkeypatch) -> None:
    def count_things(predictions: Predictions) -> dict[str, Score]:
        things = sum(category.isthing for category in predictions.files.categories)
        figures = {"evaluator": "mine", "version": "7", "share": things / len(predictions.files.categories)}
        return {"things": Score(figures, ["odd things"], {"share": [0.0, 1.0]})}

    module = ModuleType("new_evaluator")
    module.count_things = count_things
    monkeypatch.setitem(sys.modules, "new_evaluator", module)
    metric = Metric("things", "things", (HeadlineFigure("share_of_things", "Share of things", "share"),))
    entry = Evaluator("metrics", "things", (metric,), "new_evaluator:count_things", "share of things")
    monkeypatch.setattr(run_module, "EVALUATORS", (*EVALUATORS, entry))
    monkeypatch.setitem(METRICS, "things", metric)

    run = perfect_run(tmp_path, monkeypatch)
    evaluate = run.evaluate.model_copy(update={"metrics": ["pq", "things"]})
    metrics = json.loads(evaluate_run(run.model_copy(update={"evaluate": evaluate}), {}).read_text())
    assert 0 < metrics["things"]["share"] < 1
    assert metrics["provenance"]["evaluator"]["things"] == "mine"
    assert metrics["intervals"]["things"] == {"share": [0.0, 1.0]}
    assert metrics["warnings"] == ["odd things"]
    scores = json.loads(paths.scores("small").read_text())
    assert scores["share_of_things"] == metrics["things"]["share"]
    page = (report(["small"]).parent / "runs/small.html").read_text()
    assert "Share of things" in page
    assert "mine (version 7)" in page


def test_the_page_shows_panoptic_quality_by_both_rules(tmp_path: Path, monkeypatch) -> None:
    run = perfect_run(tmp_path, monkeypatch, metrics=["pq", "pq_deeplab2", "ceiling"])
    evaluate_run(run, {})
    page = (report(["small"]).parent / "runs/small.html").read_text()
    for title in ("PQ things", "PQ by deeplab2&#39;s rules", "PQ ceiling of the grid", "AP of boxes"):
        assert title in page
    assert "computed by hotcoco" in page


def test_whole_splits_and_missing_predictions_are_refused(tmp_path: Path, monkeypatch) -> None:
    run = perfect_run(tmp_path, monkeypatch)
    content = run.model_dump()
    for change, message in (
        ({"evaluate": {"ap": "cityscapes"}}, "evaluate.ap: cityscapes needs predict.instances: cityscapes"),
        ({"predict": {"semantic": False}}, "needs predict.semantic: true"),
        (
            {"evaluate": {"miou": "ade20k"}, "data": {"val_images": ["a.jpg"]}},
            "evaluate.miou: ade20k needs the whole split",
        ),
    ):
        changed = {
            key: value | change.get(key, {}) if key in change else value for key, value in content.items()
        }
        with pytest.raises(ValidationError, match=message):
            type(run).model_validate(changed)
