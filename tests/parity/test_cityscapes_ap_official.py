"""Cityscapes' instance AP against the recorded numbers of cityscapesscripts."""

import json
from pathlib import Path

import numpy as np
import pytest

from kmax.evaluation.cityscapes.cityscapes_ap import CityscapesAP, evaluate_files
from kmax.evaluation.cityscapes.cityscapes_format import INSTANCE_CLASSES

HERE = Path(__file__).resolve().parents[1] / "golden" / "metrics" / "ap_cityscapes"


def evaluate(case: Path, shared: Path | None = None, workers: int = 1) -> tuple[CityscapesAP, dict]:
    expected = json.loads((case / "expected.json").read_text())
    inside = case / "gtFine" / "val"
    truth = inside if inside.is_dir() else shared / expected["gt"]
    predicted = case / "pred" if (case / "pred").is_dir() else case
    return evaluate_files(truth, predicted, workers=workers), expected


def deviation(ours: CityscapesAP, expected: dict) -> float:
    matrix = np.array(expected["resultApMatrix"][0], np.float64)  # null becomes nan
    assert (np.isnan(matrix) == np.isnan(ours.precision)).all()
    figures, averages = ours.to_json(), expected["averages"]
    pairs = [(figures["ap"], averages["allAp"]), (figures["ap50"], averages["allAp50%"])]
    for label in INSTANCE_CLASSES:
        mine, official = figures["per_category"][str(label.id)], averages["classes"][label.name]
        assert (mine["ap"] is None) == (official["ap"] is None)
        if mine["ap"] is not None:
            pairs += [(mine["ap"], official["ap"]), (mine["ap50"], official["ap50%"])]
    return max(np.nanmax(abs(matrix - ours.precision)), *(abs(a - b) for a, b in pairs))


def test_rules_of_groups_tiny_objects_and_void() -> None:
    assert deviation(*evaluate(HERE / "rules_small")) <= 1e-9


@pytest.mark.parametrize("name", ["mini_val", "mini_val_score_ties", "real_frame"])
def test_frames(golden: Path, name: str) -> None:
    assert deviation(*evaluate(golden / "metrics/ap_cityscapes" / name, golden.parent)) <= 1e-9


def test_every_recorded_case_is_checked(golden: Path) -> None:
    recorded = {path.name for path in (golden / "metrics/ap_cityscapes").iterdir() if path.is_dir()}
    assert recorded == {"rules_small", "mini_val", "mini_val_score_ties", "real_frame"}


def test_processes_give_the_same_figures() -> None:
    one, two = (evaluate(HERE / "rules_small", workers=workers)[0].to_json() for workers in (1, 2))
    assert one == two
