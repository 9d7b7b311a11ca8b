from pathlib import Path

import numpy as np
from panoptic_folder import files, halves, write_side

from kmax.evaluation.semantic.miou import evaluate_files


def test_void_truth_is_ignored_and_void_prediction_is_a_miss(tmp_path: Path) -> None:
    truth = halves(0, 2)
    predicted = np.zeros((8, 8), np.int32)
    predicted[:, :6] = 5
    write_side(tmp_path, "gt", {1: (truth, {2: 9})})
    write_side(tmp_path, "pred", {1: (predicted, {5: 9})})
    figures = evaluate_files(files(tmp_path)).to_json()
    assert figures["per_class"]["9"] == {"iou": 0.5, "intersection": 16, "truth": 32, "predicted": 16}
    assert figures["miou"] == 0.5
    assert figures["n"] == 1
    assert figures["per_class"]["1"]["iou"] is None


def test_instances_of_a_class_count_as_one_region(tmp_path: Path) -> None:
    write_side(tmp_path, "gt", {1: (halves(1, 2), {1: 1, 2: 1})})
    write_side(tmp_path, "pred", {1: (halves(4, 4), {4: 1})})
    assert evaluate_files(files(tmp_path)).to_json()["miou"] == 1.0
