"""Results are attributed to the right weights: no stage continues from the output of other parameters."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from commandline import change_run, is_one_line, run_kmax

MODEL = "results/shapes-mini/model.safetensors"
METRICS = "reports/metrics/shapes-mini"


def other_seed(content: Any) -> None:
    content["train"]["seed"] += 1


def other_thresholds(content: Any) -> None:
    content["predict"]["overlap_threshold"] = 0.5


def events(project: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted((project / "runs").rglob("events.jsonl"))}


def test_scores_and_speeds_name_the_weights(finished: Path) -> None:
    sha256 = hashlib.sha256((finished / MODEL).read_bytes()).hexdigest()
    predictions = json.loads((finished / "results/shapes-mini/predictions/provenance.json").read_text())
    for provenance in (
        predictions,
        json.loads((finished / METRICS / "metrics.json").read_text())["provenance"],
        json.loads((finished / METRICS / "speed.json").read_text())["provenance"],
    ):
        assert provenance["model_sha256"] == sha256
        assert provenance["digest"].startswith(next((finished / "runs/shapes-mini").iterdir()).name)


def test_after_a_change_no_stage_continues_from_the_old_model(copy: Path) -> None:
    change_run(copy, other_seed)
    before = events(copy), (copy / METRICS / "metrics.json").read_bytes()
    for verb, advice in {"predict": "train", "evaluate": "predict", "benchmark": "train"}.items():
        answer = run_kmax(copy, verb, "shapes-mini")
        assert answer.returncode == 2
        assert is_one_line(answer)
        assert f"run: kmax {advice} shapes-mini" in answer.stderr
    assert (events(copy), (copy / METRICS / "metrics.json").read_bytes()) == before


def test_predictions_with_other_thresholds_are_not_scored(copy: Path) -> None:
    change_run(copy, other_thresholds)
    answer = run_kmax(copy, "evaluate", "shapes-mini")
    assert answer.returncode == 2
    assert "run: kmax predict shapes-mini" in answer.stderr
    for verb in ("predict", "evaluate"):
        assert run_kmax(copy, verb, "shapes-mini").returncode == 0


def test_a_model_is_measured_without_its_data(copy: Path) -> None:
    shutil.rmtree(copy / "data")
    answer = run_kmax(copy, "benchmark", "shapes-mini")
    assert answer.returncode == 0, answer.stderr


def test_a_trained_run_is_not_ported_and_nothing_is_tracked(copy: Path) -> None:
    before = events(copy)
    answer = run_kmax(copy, "port", "shapes-mini")
    assert answer.returncode == 2
    assert "the run has no 'port' section; run: kmax train shapes-mini" in answer.stderr
    assert events(copy) == before
