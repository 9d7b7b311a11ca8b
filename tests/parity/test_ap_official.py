"""COCO's average precision of files against the recorded numbers of pycocotools."""

import json
from pathlib import Path

import pytest

from kmax.evaluation.coco_ap import evaluate_files

HERE = Path(__file__).resolve().parents[1] / "golden" / "metrics" / "ap_coco"
NAMES = {
    "AP": "ap",
    "AP50": "ap50",
    "AP75": "ap75",
    "APs": "ap_small",
    "APm": "ap_medium",
    "APl": "ap_large",
    "AR1": "ar1",
    "AR10": "ar10",
    "AR100": "ar",
    "ARs": "ar_small",
    "ARm": "ar_medium",
    "ARl": "ar_large",
}


def deviation(case: Path, iou_type: str) -> float:
    expected = json.loads((case / "expected.json").read_text())[iou_type]
    ours = evaluate_files(case / "gt_instances.json", case / "detections.json", iou_type).to_json()
    worst = max(abs(ours[name] - expected[official]) for official, name in NAMES.items())
    assert set(ours["per_category"]) == set(expected["per_category_AP"])
    for category, value in expected["per_category_AP"].items():
        mine = ours["per_category"][category]["ap"]
        assert (mine is None) == (value is None)
        worst = max(worst, 0.0 if value is None else abs(mine - value))
    return worst


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_ties_crowds_and_many_detections(iou_type: str) -> None:
    assert deviation(HERE / "synthetic_ties_crowd", iou_type) <= 1e-9


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_real_images(golden: Path, iou_type: str) -> None:
    assert deviation(golden / "metrics/ap_coco/coco_mini_val", iou_type) <= 1e-9
