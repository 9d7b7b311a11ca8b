"""Cross-checks: an official evaluator that is missing, fails, agrees or disagrees is reported in one line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from panoptic_folder import files, halves, write_side

from kmax.errors import InputError
from kmax.evaluation import coco_ap
from kmax.evaluation.official import PANOPTICAPI_PYTHON, check_coco_ap, check_pq
from kmax.evaluation.panoptic import pq
from kmax.evaluation.panoptic.panoptic_files import PanopticArguments

COCO = Path(__file__).resolve().parents[2] / "golden" / "metrics" / "ap_coco" / "synthetic_ties_crowd"


@pytest.fixture
def arguments(tmp_path: Path) -> PanopticArguments:
    write_side(tmp_path, "gt", {1: (halves(1, 2), {1: 1, 2: 9})})
    write_side(tmp_path, "pred", {1: (halves(1, 3), {1: 1, 3: 7})})
    return files(tmp_path)


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets a script in place of the Python that has panopticapi; it prints and exits as requested."""

    def install(stdout: str = "", stderr: str = "", code: int = 0) -> None:
        path = tmp_path / "python"
        (tmp_path / "stdout").write_text(stdout)
        (tmp_path / "stderr").write_text(stderr)
        path.write_text(f"#!/bin/sh\ncat '{tmp_path}/stdout'\ncat '{tmp_path}/stderr' >&2\nexit {code}\n")
        path.chmod(0o755)
        monkeypatch.setenv(PANOPTICAPI_PYTHON, str(path))

    return install


def official(figures: dict[str, Any]) -> dict[str, Any]:
    """Our figures in the format of panopticapi."""
    groups = {name.capitalize(): figures[name] for name in ("all", "things", "stuff")}
    names = ("pq", "sq", "rq")
    per_class = {c: {n: s[n] for n in names} for c, s in figures["per_category"].items()}
    return {**groups, "per_class": per_class}


def test_missing(python: Any, arguments: PanopticArguments) -> None:
    python(stderr="Traceback\nModuleNotFoundError: No module named 'panopticapi'\n", code=1)
    with pytest.raises(InputError, match="panopticapi is not installed: run pip install panopticapi-lite"):
        check_pq(pq.evaluate_files(arguments), arguments)


def test_missing_python(monkeypatch: pytest.MonkeyPatch, arguments: PanopticArguments) -> None:
    monkeypatch.setenv(PANOPTICAPI_PYTHON, "nowhere/python")
    with pytest.raises(InputError, match=r"KMAX_PANOPTICAPI_PYTHON: nowhere/python: No such file"):
        check_pq(pq.evaluate_files(arguments), arguments)


def test_agreement(python: Any, arguments: PanopticArguments, capfd: Any) -> None:
    result = pq.evaluate_files(arguments)
    python(json.dumps(official(result.to_json())))
    assert "agrees on 18 values" in check_pq(result, arguments)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("wrong", [0.25, np.nan])
def test_disagreement(python: Any, arguments: PanopticArguments, wrong: float) -> None:
    result = pq.evaluate_files(arguments)
    theirs = official(result.to_json())
    theirs["Things"] = {**theirs["Things"], "pq": wrong}
    python(json.dumps(theirs))
    with pytest.raises(InputError) as caught:
        check_pq(result, arguments)
    assert len(caught.value.faults) == 1
    assert "things pq: panopticapi gives" in caught.value.faults[0]


def test_failure(python: Any, arguments: PanopticArguments) -> None:
    python(stderr="Traceback ...\nKeyError: 'In the image with ID 1 ...'\n", code=1)
    with pytest.raises(InputError, match=r"panopticapi failed \(.*python\): KeyError: 'In the image"):
        check_pq(pq.evaluate_files(arguments), arguments)
    python(code=7)
    with pytest.raises(InputError, match=r"panopticapi failed \(.*python\): exit code 7"):
        check_pq(pq.evaluate_files(arguments), arguments)


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_average_precision_agrees_bit_for_bit(iou_type: Any) -> None:
    paths = COCO / "gt_instances.json", COCO / "detections.json"
    result = coco_ap.evaluate_files(*paths, iou_type, max_detections=50)
    assert result.provenance.engine.startswith("hotcoco ")
    assert check_coco_ap(result, *paths).endswith("largest difference 0.0e+00")
    wrong = replace(result, recall=result.recall * 0.5)
    with pytest.raises(InputError, match="ar1: pycocotools gives") as caught:
        check_coco_ap(wrong, *paths)
    assert len(caught.value.faults) == 6
