"""The semantic term: which pixels count, and how much."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from kmax import config
from kmax.data.batch import Batch
from kmax.losses import Criterion
from kmax.losses.loss_terms import semantic_loss, small_instance_weights

CLASSES = 4


def test_only_the_worst_pixels_count() -> None:
    torch.manual_seed(0)
    logits, semantic = torch.randn(2, 3, 13), torch.randint(3, (2, 13))
    semantic[0, :12] = -1
    each = -logits.log_softmax(1).gather(1, semantic.clamp(min=0)[:, None])[:, 0]
    expected = [each[0, 12], each[1].sort(descending=True).values[:3].mean()]  # 0.2 * 13 is about 3
    torch.testing.assert_close(semantic_loss(logits, semantic, top_k=0.2), torch.stack(expected))


def test_weights_multiply_before_the_worst_are_taken() -> None:
    logits, semantic = torch.zeros(1, 2, 4), torch.zeros(1, 4, dtype=torch.int64)
    weight = torch.tensor([[1.0, 3.0, 1.0, 1.0]])
    loss = semantic_loss(logits, semantic, weight, top_k=0.25)
    torch.testing.assert_close(loss, 3 * torch.log(torch.tensor([2.0])))


@pytest.mark.parametrize("name", ["coco", "cityscapes", "cityscapes_threshold_150", "ade20k"])
def test_weights_are_those_of_the_recorded_labels(golden: Path, name: str) -> None:
    record = next(
        case
        for case in json.loads((golden / "tf_data/targets.json").read_text())["cases"]
        if case["name"] == name
    )
    with np.load(golden / "tf_data/targets.npz") as npz:
        arrays = {key.removeprefix(f"{name}__"): npz[key] for key in npz.files if key.startswith(f"{name}__")}
    things = arrays["thing_id_mask_gt"]
    stuff = np.where(things < 0, arrays["semantic_gt"], -1)  # one segment of each class without instances
    labels = np.unique(stuff[stuff >= 0])
    segments = np.where(things >= 0, things, things.max() + 1 + np.searchsorted(labels, stuff))
    classes = np.concatenate([np.zeros(things.max() + 1, int), np.ones(len(labels), int)])
    size = segments.shape
    batch = Batch(
        images=torch.zeros(1, 3, *size),
        segments=torch.from_numpy(segments[None].astype(np.int64)),
        semantic=torch.from_numpy(arrays["semantic_gt"][None].astype(np.int64)),
        classes=[torch.from_numpy(classes)],
        image_ids=[0],
        content_sizes=[size],
        original_sizes=[size],
    )
    small = record["small"] or {"threshold": 4096, "weight": 1.0}
    rule = config.SmallInstances(area=small["threshold"], weight=small["weight"])
    weights = small_instance_weights(batch, torch.tensor([True, False]), rule)
    assert np.array_equal(weights[0].numpy(), arrays["semantic_loss_weight"])


def test_small_things_weigh_more_and_stuff_does_not(losses, make_batch, make_output) -> None:
    output, batch = make_output(1), make_batch([0, 1])
    small = config.SmallInstances(area=10**6, weight=3.0)
    weighted = losses.model_copy(update={"small_instances": small})

    def semantic(isthing: list[bool]) -> float:
        criterion = Criterion(weighted, CLASSES, isthing=torch.tensor(isthing))
        return criterion(output, batch)["semantic"].item()

    plain = Criterion(losses, CLASSES)(output, batch)["semantic"].item()
    assert semantic([False] * CLASSES) == plain
    assert semantic([True] * CLASSES) == pytest.approx(3 * plain)
    assert plain < semantic([True, False, False, False]) < 3 * plain


def test_weights_of_small_things_need_to_know_the_things(losses) -> None:
    small = config.SmallInstances(area=4096, weight=3.0)
    with pytest.raises(ValueError, match="small_instances requires isthing"):
        Criterion(losses.model_copy(update={"small_instances": small}), CLASSES)
