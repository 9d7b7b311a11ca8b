"""Mutated JSON files have the outcome of the official evaluators, or one that docs/evaluation.md lists."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def fuzz(folder: Path, python: str, count: int, seed: int) -> dict[str, int]:
    command = [
        sys.executable,
        str(Path(__file__).with_name("fuzz_json.py")),
        str(count),
        str(seed),
        str(folder),
    ]
    environment = os.environ | {"KMAX_PANOPTICAPI_PYTHON": python}
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert answer.returncode == 0, answer.stderr[-3000:]
    print(answer.stdout)
    found = json.loads(answer.stdout)
    for name in ("panopticapi", "pycocotools"):
        assert found[f"{name}: accepted by both, equal"] > 0
        assert found[f"{name}: accepted by both, equal, with a warning"] > 0
        assert any(key.startswith(f"{name}: refused") for key in found)
    return found


def test_100_mutated_files(tmp_path: Path, panopticapi_python: str) -> None:
    assert fuzz(tmp_path, panopticapi_python, 100, seed=1)["files"] == 100


@pytest.mark.long
def test_10_000_mutated_files(tmp_path: Path, panopticapi_python: str) -> None:
    assert fuzz(tmp_path, panopticapi_python, 10_000, seed=2)["files"] == 10_000
