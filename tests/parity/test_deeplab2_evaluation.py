"""Panoptic quality and AP by deeplab2's rules against its recorded numbers, which are 32-bit."""

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kmax.evaluation.panoptic import deeplab2
from kmax.evaluation.panoptic.pq import Counts

TOLERANCE = 2e-7
NAMES = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar1", "ar10", "ar", "ar_small", "ar_medium", "ar_large"),
)


@pytest.fixture(scope="module")
def recorded(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "tf_reference/eval_golden.json").read_text())


def label_maps(golden: Path, recorded: dict[str, Any], case: dict[str, Any]) -> Iterator[list[np.ndarray]]:
    """Class and instance of the ground truth, class and instance of the prediction."""
    if "arrays" in case:
        names = ("gt_class", "gt_instance", "pred_class", "pred_instance")
        yield [np.array(case["arrays"][name]) for name in names]
        return
    folder = golden / "tf_reference/eval_testdata"
    for name in case["images"]:
        facts = recorded["images"][name]
        grey = np.array(Image.open(folder / facts["gt"]).convert("L")).astype(int)
        truth = np.zeros_like(grey)
        for value, index in facts["gt_gray_to_class"].items():
            truth[grey == int(value)] = index
        colours = np.array(Image.open(folder / facts["pred_class"]).convert("RGB"))
        predicted = np.zeros_like(grey)
        for colour, index in recorded["color_map"]:
            predicted[(colours == colour).all(-1)] = index
        instances = np.array(Image.open(folder / facts["pred_instance"]).convert("L")).astype(int)
        yield [truth, grey, predicted, instances]


@pytest.mark.parametrize("number", range(6))
def test_panoptic_quality(golden: Path, recorded: dict[str, Any], number: int) -> None:
    case = recorded["pq"][number]
    divisor, size = case["label_divisor"], case["num_classes"]
    images = [
        deeplab2.match(a * divisor + b, c * divisor + d, size, case["ignored_label"], divisor)
        for a, b, c, d in label_maps(golden, recorded, case)
    ]
    sums = {f.name: np.sum([getattr(image, f.name) for image in images], axis=0) for f in fields(Counts)}
    counts = Counts(**sums)
    figures = deeplab2.summary(counts)
    expected = dict(zip(("pq", "sq", "rq", "tp", "fn", "fp"), case["pq_sq_rq_tp_fn_fp"], strict=True))
    assert figures == pytest.approx(expected, abs=TOLERANCE)
    for name, values in case["per_class"].items():
        mine = getattr(counts, "iou_sum" if name == "iou" else name)
        np.testing.assert_allclose(mine, values, rtol=TOLERANCE)


@pytest.mark.parametrize("number", range(6))
def test_average_precision(golden: Path, recorded: dict[str, Any], number: int) -> None:
    case = recorded["ap"][number]
    divisor, size, arrays = case["label_divisor"], case["num_classes"], case.get("arrays", {})
    metric = deeplab2.InstanceAP(case["things"], case["ignored_label"], divisor)
    for truth, truth_instances, predicted, instances in label_maps(golden, recorded, case):
        one_hot = np.eye(size, dtype=np.float32)[predicted]
        if "all one" in (case.get("scores"), arrays.get("scores")):
            probability, scores = np.ones_like(one_hot), np.ones(truth.shape)
        elif "instance_score" in arrays:
            probability, scores = one_hot, np.array(arrays["instance_score"])
        else:
            probability = one_hot * (0.5 + 0.1 * predicted)[..., None]
            scores = (instances * 37 % 101) / 100
        crowd = truth_instances == 2 if "crowd" in arrays else None
        labels = truth * divisor + truth_instances, predicted * divisor + instances
        metric.update(*labels, probability, scores, crowd)
    figures = metric.compute().to_json()
    mine = [-1.0 if figures[name] is None else figures[name] for name in NAMES]
    assert mine == pytest.approx(case["ap12"], abs=TOLERANCE)
