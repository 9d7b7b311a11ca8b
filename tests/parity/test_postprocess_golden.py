"""Panoptic post-processing against the maps that the two originals make of the same logits."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from kmax.config import Predict
from kmax.inference.postprocess import maskwise, to_original_logits

TF_CASES = ["coco", "cityscapes", "ade20k", "coco_empty"]
TORCH_CASES = [
    "coco_mixed",
    "cityscapes_mixed",
    "ade20k_mixed",
    "coco_none_survive_all_void_class",
    "coco_all_void_pixels",
    "coco_heavy_overlap",
    "coco_stuff_merge",
    "coco_loose_noise",
]
RESIZE_CASES = ["odd_up", "odd_down", "even", "mixed_oddH_evenW", "cityscapes"]


def named(cases: list[dict], name: str) -> dict:
    return next(case for case in cases if case["name"] == name)


@pytest.mark.parametrize("name", TF_CASES)
def test_tf_maps_are_identical(golden: Path, name: str) -> None:
    case = named(json.loads((golden / "tf_reference/postprocess_golden.json").read_text())["cases"], name)
    arrays = np.load(golden / f"tf_reference/postprocess_{name}.npz")
    rules = case["maskwise"]
    # Classes of the original's logits: things first, then stuff; ids as in the recorded maps.
    things, num_classes, size = (
        case["thing_class_ids"],
        case["num_class_logits"] - 1,
        tuple(case["image_size"]),
    )
    first = 0 if case["void_label"] == 255 else 1
    stuff = [index for index in range(first, first + num_classes) if index not in things]
    result = maskwise(
        torch.from_numpy(arrays["class_logits"]),
        torch.from_numpy(arrays["mask_logits"]).permute(2, 0, 1),
        input_size=size,
        content_size=size,
        original_size=size,
        isthing=torch.arange(num_classes) < len(things),
        predict=Predict(
            mode="maskwise",
            pixel_threshold=case["pixel_confidence_threshold"],
            class_threshold_thing=rules["transformer_class_confidence_threshold_thing"],
            class_threshold_stuff=rules["transformer_class_confidence_threshold_stuff"],
            overlap_threshold=rules["overlapping_threshold"],
            reorder_class_weight=rules["reorder_class_weight"],
            reorder_mask_weight=rules["reorder_mask_weight"],
            thing_area_limit=case["thing_area_limit"],
            stuff_area_limit=case["stuff_area_limit"],
            batch_size=1,
            pictures=0,
        ),
        flavour="tf",
    )
    expected = arrays["maskwise__panoptic"]
    divisor, void = case["label_divisor"], case["void_label"] * case["label_divisor"]
    dataset_class = np.full(len(result.segments) + 1, case["void_label"])
    for segment in result.segments:
        dataset_class[segment.id] = (things + stuff)[segment.class_index]
    assert np.array_equal(result.ids == 0, expected == void)
    covered = expected != void
    assert np.array_equal(dataset_class[result.ids][covered], expected[covered] // divisor)
    pairs = np.unique(np.stack([result.ids[covered], expected[covered]]), axis=1)
    assert pairs.shape[1] == len(result.segments) == len(np.unique(expected[covered]))


@pytest.mark.parametrize("name", TORCH_CASES)
def test_torch_maps_are_identical(golden: Path, name: str) -> None:
    recorded = json.loads((golden / "torch_reference/postprocess.json").read_text())
    case, metadata = named(recorded["cases"], name), recorded["metadata"]
    arrays = np.load(golden / "torch_reference/postprocess.npz")
    size = arrays[f"{name}/pred_masks"].shape[1:]
    isthing = torch.zeros(metadata[case["dataset"]]["num_classes"], dtype=torch.bool)
    isthing[metadata[case["dataset"]]["thing_contiguous_ids"]] = True
    rules = case["params"]
    result = maskwise(
        torch.from_numpy(arrays[f"{name}/pred_logits"]).float(),
        torch.from_numpy(arrays[f"{name}/pred_masks"]).float(),
        input_size=size,
        content_size=size,
        original_size=size,
        isthing=isthing,
        predict=Predict(
            mode="maskwise",
            pixel_threshold=rules["pixel_confidence_threshold"],
            class_threshold_thing=rules["class_threshold_thing"],
            class_threshold_stuff=rules["class_threshold_stuff"],
            overlap_threshold=rules["overlap_threshold"],
            reorder_class_weight=rules["reorder_class_weight"],
            reorder_mask_weight=rules["reorder_mask_weight"],
            thing_area_limit=0,
            stuff_area_limit=0,
            batch_size=1,
            pictures=0,
        ),
        flavour="torch",
    )
    assert np.array_equal(result.ids, arrays[f"{name}/panoptic_seg"])
    assert [(s.id, bool(isthing[s.class_index]), s.class_index) for s in result.segments] == [
        (s["id"], s["isthing"], s["category_id"]) for s in case["segments_info"]
    ]
    class_scores, mask_scores = arrays[f"{name}/class_score"], arrays[f"{name}/mask_score"]
    known = class_scores * mask_scores
    for segment in result.segments:
        assert np.abs(known - segment.score).min() < 1e-5


@pytest.mark.parametrize("name", RESIZE_CASES)
def test_torch_logits_at_image_size(golden: Path, name: str) -> None:
    recorded = json.loads((golden / "torch_reference/postprocess.json").read_text())["resize_cases"]
    case = named(recorded, name)
    arrays = np.load(golden / "torch_reference/postprocess.npz")
    logits = to_original_logits(
        torch.from_numpy(arrays[f"resize_{name}/in"]).float(),
        tuple(case["network_size"]),
        tuple(case["crop_effective"]),
        tuple(case["original_size"]),
    )
    np.testing.assert_allclose(logits[:, ::3, ::3].numpy(), arrays[f"resize_{name}/out"], atol=1e-5, rtol=0)
