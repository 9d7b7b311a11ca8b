"""Panoptic post-processing against the maps that the two originals make of the same logits."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from kmax.config import Predict
from kmax.inference.panoptic_map import PanopticMap
from kmax.inference.panoptic_postprocess import maskwise, pixelwise
from kmax.inference.scored_instances import instances_of_clusters, instances_of_map
from kmax.inference.semantic_map import semantic_map, semantic_scores
from kmax.inference.upsampling import ImageSizes, to_image

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


@dataclass
class TfCase:
    """A recorded case of the TensorFlow original.

    Attributes:
        dataset_class: id in the recorded maps of each class, which are things first, then stuff.
    """

    record: dict
    arrays: dict[str, np.ndarray]
    dataset_class: np.ndarray
    isthing: torch.Tensor
    predict: Predict
    class_logits: torch.Tensor
    mask_logits: torch.Tensor
    sizes: ImageSizes

    @property
    def void(self) -> int:
        return self.record["void_label"] * self.record["label_divisor"]


@pytest.fixture(params=TF_CASES)
def tf_case(golden: Path, request: pytest.FixtureRequest) -> TfCase:
    cases = json.loads((golden / "tf_reference/postprocess_golden.json").read_text())["cases"]
    case = named(cases, request.param)
    arrays = dict(np.load(golden / f"tf_reference/postprocess_{request.param}.npz").items())
    rules = case["maskwise"]
    things, num_classes = case["thing_class_ids"], case["num_class_logits"] - 1
    first = 0 if case["void_label"] == 255 else 1
    stuff = [index for index in range(first, first + num_classes) if index not in things]
    size = tuple(case["image_size"])
    return TfCase(
        record=case,
        arrays=arrays,
        dataset_class=np.array(things + stuff),
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
        class_logits=torch.from_numpy(arrays["class_logits"]),
        mask_logits=torch.from_numpy(arrays["mask_logits"]).permute(2, 0, 1),
        sizes=ImageSizes(size, size, size),
    )


def check_tf_map(case: TfCase, result: PanopticMap, mode: str) -> None:
    """The map is the recorded one, and so are the segments' scores on their pixels."""
    expected, divisor = case.arrays[f"{mode}__panoptic"].astype(np.int64), case.record["label_divisor"]
    assert np.array_equal(result.ids == 0, expected == case.void)
    covered = expected != case.void
    pairs = np.unique(np.stack([result.ids[covered], expected[covered]]), axis=1)
    assert pairs.shape[1] == len(result.segments) == len(np.unique(expected[covered]))
    label_of = dict(pairs.T.tolist())
    for segment in result.segments:
        assert case.dataset_class[segment.class_index] == label_of[segment.id] // divisor
        pixels = result.ids == segment.id
        recorded = [case.arrays[f"{mode}__{kind}_score"][pixels].mean() for kind in ("instance", "semantic")]
        assert segment.score == pytest.approx(recorded[0] * recorded[1], abs=1e-5)


def test_tf_maps_are_identical(tf_case: TfCase) -> None:
    result = maskwise(
        tf_case.class_logits,
        tf_case.mask_logits,
        isthing=tf_case.isthing,
        predict=tf_case.predict,
        flavour="tf",
        sizes=tf_case.sizes,
    )
    check_tf_map(tf_case, result, "maskwise")


def test_tf_pixelwise_maps_are_identical(tf_case: TfCase) -> None:
    threshold = tf_case.record["pixelwise_transformer_class_confidence_threshold"]
    result = pixelwise(
        tf_case.class_logits,
        tf_case.mask_logits,
        isthing=tf_case.isthing,
        predict=tf_case.predict.model_copy(
            update={"class_threshold_thing": threshold, "class_threshold_stuff": threshold}
        ),
        sizes=tf_case.sizes,
    )
    check_tf_map(tf_case, result, "pixelwise")


def test_tf_semantic_maps_are_identical(tf_case: TfCase) -> None:
    result = semantic_map(tf_case.class_logits, tf_case.mask_logits, flavour="tf", sizes=tf_case.sizes)
    assert np.array_equal(tf_case.dataset_class[result], tf_case.arrays["semantic__semantic"])


def test_tf_instances_are_the_things_of_the_panoptic_map(tf_case: TfCase) -> None:
    arguments = {
        "isthing": tf_case.isthing,
        "predict": tf_case.predict,
        "flavour": "tf",
        "sizes": tf_case.sizes,
    }
    result = maskwise(tf_case.class_logits, tf_case.mask_logits, **arguments)
    found = instances_of_map(result, tf_case.isthing)
    expected, divisor = tf_case.arrays["maskwise__panoptic"], tf_case.record["label_divisor"]
    things = [label for label in np.unique(expected) if label // divisor in tf_case.record["thing_class_ids"]]
    assert len(found) == len(things)
    for instance in found:
        (label,) = np.unique(expected[instance.mask])
        assert label in things
        assert np.array_equal(instance.mask, expected == label)
        assert tf_case.dataset_class[instance.class_index] == label // divisor


@dataclass
class TorchCase:
    """A recorded case of the PyTorch original."""

    record: dict
    arrays: dict[str, np.ndarray]
    isthing: torch.Tensor
    predict: Predict
    class_logits: torch.Tensor
    mask_logits: torch.Tensor
    sizes: ImageSizes


@pytest.fixture(params=TORCH_CASES)
def torch_case(golden: Path, request: pytest.FixtureRequest) -> TorchCase:
    recorded = json.loads((golden / "torch_reference/postprocess.json").read_text())
    case = named(recorded["cases"], request.param)
    metadata = recorded["metadata"][case["dataset"]]
    with np.load(golden / "torch_reference/postprocess.npz") as npz:
        start = f"{request.param}/"
        arrays = {key.removeprefix(start): npz[key] for key in npz.files if key.startswith(start)}
    isthing = torch.zeros(metadata["num_classes"], dtype=torch.bool)
    isthing[metadata["thing_contiguous_ids"]] = True
    rules, size = case["params"], arrays["pred_masks"].shape[1:]
    return TorchCase(
        record=case,
        arrays=arrays,
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
        class_logits=torch.from_numpy(arrays["pred_logits"]).float(),
        mask_logits=torch.from_numpy(arrays["pred_masks"]).float(),
        sizes=ImageSizes(size, size, size),
    )


def test_torch_maps_are_identical(torch_case: TorchCase) -> None:
    result = maskwise(
        torch_case.class_logits,
        torch_case.mask_logits,
        isthing=torch_case.isthing,
        predict=torch_case.predict,
        flavour="torch",
        sizes=torch_case.sizes,
    )
    assert np.array_equal(result.ids, torch_case.arrays["panoptic_seg"])
    isthing = torch_case.isthing.tolist()
    assert [(s.id, isthing[s.class_index], s.class_index) for s in result.segments] == [
        (s["id"], s["isthing"], s["category_id"]) for s in torch_case.record["segments_info"]
    ]
    known = torch_case.arrays["class_score"] * torch_case.arrays["mask_score"]
    for segment in result.segments:
        assert np.abs(known - segment.score).min() < 1e-5


def test_torch_semantic_scores_and_maps_are_identical(torch_case: TorchCase) -> None:
    inputs = torch_case.class_logits, torch_case.mask_logits
    scores = torch.cat(list(semantic_scores(*inputs, torch_case.sizes))).transpose(0, 1)
    np.testing.assert_allclose(scores[:, ::4, ::4], torch_case.arrays["semantic"], atol=1e-5, rtol=0)
    result = semantic_map(*inputs, flavour="torch", sizes=torch_case.sizes)
    assert np.array_equal(result, torch_case.arrays["semantic_argmax"])


def test_torch_instances_are_identical(torch_case: TorchCase) -> None:
    found = instances_of_clusters(
        torch_case.class_logits,
        torch_case.mask_logits,
        isthing=torch_case.isthing,
        predict=torch_case.predict,
        sizes=torch_case.sizes,
    )
    scores, classes = torch_case.arrays["inst_scores"], torch_case.arrays["inst_classes"]
    masks = np.unpackbits(torch_case.arrays["inst_masks_packed"], axis=1).astype(bool)
    assert len(found) == len(scores)
    left = set(range(len(scores)))  # equal scores come in any order
    for instance in found:
        flat = instance.mask.ravel()
        match = next(
            i
            for i in left
            if classes[i] == instance.class_index
            and abs(scores[i] - instance.score) < 1e-5
            and np.array_equal(masks[i, : flat.size], flat)
        )
        left.remove(match)
    assert [i.score for i in found] == sorted((i.score for i in found), reverse=True)


@pytest.mark.parametrize("name", RESIZE_CASES)
def test_torch_logits_at_image_size(golden: Path, name: str) -> None:
    recorded = json.loads((golden / "torch_reference/postprocess.json").read_text())["resize_cases"]
    case = named(recorded, name)
    arrays = np.load(golden / "torch_reference/postprocess.npz")
    native = torch.from_numpy(arrays[f"resize_{name}/in"]).float()
    upsampling = to_image(
        tuple(native.shape[1:]),
        ImageSizes(
            tuple(case["network_size"]),
            tuple(case["crop_effective"]),
            tuple(case["original_size"]),
        ),
    )
    logits = upsampling(native)
    np.testing.assert_allclose(logits[:, ::3, ::3].numpy(), arrays[f"resize_{name}/out"], atol=1e-5, rtol=0)
