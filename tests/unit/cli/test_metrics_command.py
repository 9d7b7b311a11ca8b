"""`kmax metrics`: tables on the terminal, scores with their provenance in a file, one-line errors."""

import json
from pathlib import Path
from typing import Any

import pytest

from kmax.cli.main import main

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "metrics"
ORIGIN = {
    *("evaluator", "version", "protocol", "split", "images"),
    *("ground_truth_digest", "predictions_digest"),
}


def call(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return caught.value.code or 0


def panoptic(case: str) -> list[str]:
    folder = GOLDEN / case
    files = {
        "gt-json": "gt.json",
        "gt-dir": "gt",
        "pred-json": "pred.json",
        "pred-dir": "pred",
    }
    return [word for name, file in files.items() for word in (f"--{name}", str(folder / file))]


COCO = GOLDEN / "ap_coco" / "synthetic_ties_crowd"
CITYSCAPES = GOLDEN / "ap_cityscapes" / "rules_small"
VERBS = {
    "pq": panoptic("pq/crowd"),
    "miou": panoptic("pq/crowd"),
    "ap": ["--gt-json", str(COCO / "gt_instances.json"), "--pred-json", str(COCO / "detections.json")],
    "cityscapes-ap": ["--gt-dir", str(CITYSCAPES / "gtFine/val"), "--pred-dir", str(CITYSCAPES / "pred")],
}


@pytest.mark.parametrize("verb", VERBS)
def test_files_contain_the_provenance_of_their_figures(verb: str, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "figures.json"
    assert call(["metrics", verb, *VERBS[verb], "--out", str(out), "--split", "mine"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == str(out)
    figures = json.loads(out.read_text())
    assert set(figures["provenance"]) == ORIGIN | ({"engine"} if verb == "ap" else set())
    assert figures["provenance"]["split"] == "mine"
    assert f"{figures['provenance']['images']} images" in lines[0]
    assert figures["evaluator"] in lines[0]


def test_the_analysis_of_errors_is_written_and_printed(tmp_path: Path, capsys: Any) -> None:
    folder, out = tmp_path / "explained", tmp_path / "figures.json"
    assert call(["metrics", "pq", *panoptic("pq/crowd"), "--explain", str(folder), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    figures, summary = (json.loads(path.read_text()) for path in (out, folder / "summary.json"))
    parts = summary["groups"]["all"]["all"]
    assert parts["pq"] == pytest.approx(figures["all"]["pq"], abs=1e-12)
    assert f"{100 * parts['spurious']:.2f}" in text
    assert call(["metrics", "pq", *panoptic("pq/crowd"), "--explain", "x", "--evaluator", "deeplab2"]) == 2


def test_empty_groups_are_not_available(capsys: Any) -> None:
    assert call(["metrics", "pq", *panoptic("pq/no_things")]) == 0
    things = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("things"))
    assert things.split() == ["things", "n/a", "n/a", "n/a", "0"]


def test_the_second_evaluator_is_named(tmp_path: Path, capsys: Any) -> None:
    arguments = [*panoptic("pq/crowd"), "--evaluator", "deeplab2", "--out", str(tmp_path / "a.json")]
    assert call(["metrics", "pq", *arguments]) == 0
    assert "deeplab2 rules" in capsys.readouterr().out
    assert "deeplab2" in json.loads((tmp_path / "a.json").read_text())["provenance"]["evaluator"]


def test_unusual_input_gives_warnings_or_is_refused(capsys: Any) -> None:
    odd = panoptic("pq/crowd_two_same_category")
    assert call(["metrics", "pq", *odd]) == 0
    assert "warning: " in capsys.readouterr().err
    assert call(["metrics", "pq", *odd, "--strict"]) == 2
    assert "crowd" in capsys.readouterr().err


def test_faults_leave_no_file(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "figures.json"
    assert call(["metrics", "pq", *panoptic("pq_errors/size_mismatch"), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "image 3" in error
    assert "Traceback" not in error
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["miou", "--gt-dir", "a", "--pred-dir", "b"],
            "required with --labels panoptic, not accepted with others",
        ),
        (
            ["miou", *VERBS["miou"], "--labels", "ade20k"],
            "required with --labels panoptic, not accepted with others",
        ),
        (["miou", *VERBS["miou"], "--check-with", "official"], "only available with --labels cityscapes"),
        (
            ["pq", *VERBS["pq"], "--evaluator", "deeplab2", "--check-with", "official"],
            "only available with the rules of panopticapi",
        ),
        (["pq", *VERBS["pq"], "--workers", "0"], "--workers"),
        (["ap", *VERBS["ap"], "--max-detections", "5"], "must exceed 10"),
    ],
)
def test_options_that_do_not_fit(arguments: list[str], message: str, capsys: Any) -> None:
    assert call(["metrics", *arguments]) == 2
    assert message in capsys.readouterr().err
