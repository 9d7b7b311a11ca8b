"""Panoptic quality against panopticapi itself: all recorded cases, and random ones."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from panoptic_cases import arguments_of, largest_deviation

from kmax.data.formats.coco_panoptic import write_map
from kmax.errors import InputError
from kmax.evaluation.official import check_pq
from kmax.evaluation.panoptic.panoptic_files import PanopticArguments
from kmax.evaluation.panoptic.pq import evaluate_files

RANDOM = 40
# panopticapi divides by zero where a group is empty; here the group has no figures.
EMPTY_GROUP = "ZeroDivisionError"
CATEGORIES = [{"id": number, "name": f"c{number}", "isthing": int(number < 4)} for number in (1, 2, 3, 7, 9)]


def run_panopticapi(python: str, cases: list[PanopticArguments]) -> list[dict[str, Any]]:
    paths = [[str(p) for p in (a.gt_json, a.pred_json, a.gt_dir, a.pred_dir)] for a in cases]
    command = [python, str(Path(__file__).with_name("run_panopticapi.py"))]
    answer = subprocess.run(command, input=json.dumps(paths), capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-3000:]
    return json.loads(answer.stdout)


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


def random_case(folder: Path, seed: int) -> PanopticArguments:
    """Three images of overlapping blocks, predicted by the same blocks, moved, relabelled or lost."""
    rng = np.random.default_rng(seed)
    annotations: dict[str, list[dict[str, Any]]] = {"gt": [], "pred": []}
    for image in range(3):
        maps = {side: np.zeros((24, 30), np.int32) for side in annotations}
        classes: dict[str, dict[int, int]] = {side: {} for side in annotations}
        for number in range(1, 9):
            y, x, height, width = rng.integers(0, 20), rng.integers(0, 26), *rng.integers(3, 16, 2)
            category = int(rng.choice([c["id"] for c in CATEGORIES]))
            maps["gt"][y : y + height, x : x + width] = 70 * number
            classes["gt"][70 * number] = category
            if rng.random() < 0.8:
                y, x = max(0, y + rng.integers(-2, 3)), max(0, x + rng.integers(-2, 3))
                maps["pred"][y : y + height, x : x + width] = 300 * number
                other = rng.random() < 0.2
                classes["pred"][300 * number] = 1 if other else category
        for side, ids in maps.items():
            write_map(folder / side / f"{image}.png", ids)
            segments = [
                {
                    "id": number,
                    "category_id": classes[side][number],
                    "area": int((ids == number).sum()),
                    "iscrowd": int(side == "gt" and classes[side][number] < 4 and rng.random() < 0.2),
                }
                for number in np.unique(ids[ids > 0]).tolist()
            ]
            entry = {"image_id": image, "file_name": f"{image}.png", "segments_info": segments}
            annotations[side].append(entry)
    for side, entries in annotations.items():
        content = {"categories": CATEGORIES, "annotations": entries}
        (folder / f"{side}.json").write_text(json.dumps(content))
    return PanopticArguments(*(folder / name for name in ("gt.json", "gt", "pred.json", "pred")))
