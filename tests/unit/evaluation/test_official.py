"""Cross-checks: one line says whether the official evaluator is missing, fails, agrees or disagrees."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from panoptic_folder import files, halves, write_side

from kmax.errors import InputError
from kmax.evaluation.official import check_pq
from kmax.evaluation.panoptic import pq
from kmax.evaluation.panoptic.panoptic_files import PanopticArguments


@pytest.fixture
def arguments(tmp_path: Path) -> PanopticArguments:
    write_side(tmp_path, "gt", {1: (halves(1, 2), {1: 1, 2: 9})})
    write_side(tmp_path, "pred", {1: (halves(1, 3), {1: 1, 3: 7})})
    return files(tmp_path)


def install(monkeypatch: pytest.MonkeyPatch, compute: Any) -> None:
    package, module = ModuleType("panopticapi"), ModuleType("panopticapi.evaluation")
    module.pq_compute = compute
    monkeypatch.setitem(sys.modules, "panopticapi", package)
    monkeypatch.setitem(sys.modules, "panopticapi.evaluation", module)


def official(figures: dict[str, Any]) -> dict[str, Any]:
    """Our figures in the words of panopticapi."""
    groups = {name.capitalize(): figures[name] for name in ("all", "things", "stuff")}
    names = ("pq", "sq", "rq")
    per_class = {int(c): {n: s[n] for n in names} for c, s in figures["per_category"].items()}
    return {**groups, "per_class": per_class}


def test_missing(monkeypatch: pytest.MonkeyPatch, arguments: PanopticArguments) -> None:
    monkeypatch.setitem(sys.modules, "panopticapi", None)
    with pytest.raises(InputError, match="panopticapi is not installed: pip install"):
        check_pq(pq.evaluate_files(arguments), arguments)


def test_agreement(monkeypatch: pytest.MonkeyPatch, arguments: PanopticArguments, capsys: Any) -> None:
    result = pq.evaluate_files(arguments)

    def compute(*_: str) -> dict[str, Any]:
        print("Evaluation panoptic segmentation metrics:")
        return official(result.to_json())

    install(monkeypatch, compute)
    assert "agrees on 18 figures" in check_pq(result, arguments)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("wrong", [0.25, np.nan])
def test_disagreement(monkeypatch: pytest.MonkeyPatch, arguments: PanopticArguments, wrong: float) -> None:
    result = pq.evaluate_files(arguments)
    theirs = official(result.to_json())
    theirs["Things"] = {**theirs["Things"], "pq": wrong}
    install(monkeypatch, lambda *_: theirs)
    with pytest.raises(InputError) as caught:
        check_pq(result, arguments)
    assert len(caught.value.faults) == 1
    assert "things pq: panopticapi gives" in caught.value.faults[0]


def test_failure_for_want_of_an_older_numpy(
    monkeypatch: pytest.MonkeyPatch, arguments: PanopticArguments
) -> None:
    install(monkeypatch, lambda *_: np.removed_long_ago)
    with pytest.raises(InputError, match=r"panopticapi failed \(numpy .*\): it needs an older numpy"):
        check_pq(pq.evaluate_files(arguments), arguments)


@pytest.mark.parametrize("error", [AttributeError("no attribute 'in1d'"), SystemExit(-1)])
def test_failure(monkeypatch: pytest.MonkeyPatch, arguments: PanopticArguments, error: BaseException) -> None:
    def compute(*_: str) -> None:
        raise error

    install(monkeypatch, compute)
    with pytest.raises(InputError, match=rf"panopticapi failed \(numpy .*\): {type(error).__name__}"):
        check_pq(pq.evaluate_files(arguments), arguments)
