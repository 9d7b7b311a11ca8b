"""Panoptic quality against panopticapi itself: all recorded cases, and random ones."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from panoptic_cases import arguments_of, largest_deviation
from random_panoptic import random_case

from kmax.errors import InputError
from kmax.evaluation.official import check_pq
from kmax.evaluation.panoptic.panoptic_files import PanopticArguments
from kmax.evaluation.panoptic.pq import evaluate_files

RANDOM = 40
# panopticapi divides by zero where a group is empty; here the group has no figures.
EMPTY_GROUP = "ZeroDivisionError"


def run_panopticapi(python: str, cases: list[PanopticArguments]) -> list[dict[str, Any]]:
    paths = [[str(p) for p in (a.gt_json, a.pred_json, a.gt_dir, a.pred_dir)] for a in cases]
    command = [python, str(Path(__file__).with_name("official_server.py")), "panopticapi"]
    lines = "".join(json.dumps(one) + "\n" for one in paths)
    answer = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-3000:]
    return [json.loads(line) for line in answer.stdout.splitlines()]


def compare(arguments: PanopticArguments, official: dict[str, Any]) -> float:
    """The largest difference of any figure."""
    figures = official["figures"]
    return largest_deviation(evaluate_files(arguments), figures)


def test_recorded_cases(golden: Path, panopticapi_python: str) -> None:
    folders = sorted(path for path in (golden / "metrics/pq").iterdir() if path.is_dir())
    cases = [arguments_of(folder, golden.parent) for folder in folders]
    found = run_panopticapi(panopticapi_python, cases)
    undefined = [folder.name for folder, one in zip(folders, found, strict=True) if "raises" in one]
    assert undefined == ["no_things"]
    assert found[[folder.name for folder in folders].index("no_things")]["raises"] == EMPTY_GROUP
    for arguments, one in zip(cases, found, strict=True):
        assert "raises" in one or compare(arguments, one) <= 1e-12, arguments.gt_json


def test_recorded_malformed_input(golden: Path, panopticapi_python: str) -> None:
    folders = sorted((golden / "metrics/pq_errors").iterdir())
    folders = [folder for folder in folders if folder.is_dir()]
    cases = [arguments_of(folder, golden.parent) for folder in folders]
    for folder, arguments, one in zip(
        folders, cases, run_panopticapi(panopticapi_python, cases), strict=True
    ):
        expected = json.loads((folder / "expected.json").read_text())
        if "raises" in one:
            assert expected["raises"], folder
            with pytest.raises(InputError):
                evaluate_files(arguments)
        else:
            assert not expected["raises"], folder
            assert compare(arguments, one) <= 1e-12


def test_random_images(tmp_path: Path, panopticapi_python: str) -> None:
    cases = [random_case(tmp_path / str(seed), seed) for seed in range(RANDOM)]
    found = run_panopticapi(panopticapi_python, cases)
    assert sum("figures" in one for one in found) > RANDOM // 2
    for arguments, one in zip(cases, found, strict=True):
        if "raises" in one:
            assert one["raises"] == EMPTY_GROUP
            evaluate_files(arguments)
        else:
            assert compare(arguments, one) <= 1e-12


def test_the_check_of_the_command_line_agrees(tmp_path: Path, panopticapi_python: str, monkeypatch) -> None:
    monkeypatch.setenv("KMAX_PANOPTICAPI_PYTHON", panopticapi_python)
    arguments = random_case(tmp_path, 0)
    assert "panopticapi agrees on 24 values" in check_pq(evaluate_files(arguments), arguments)
