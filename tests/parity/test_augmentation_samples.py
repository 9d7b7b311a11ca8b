"""Training samples of deeplab2, whole and step by step, against recorded numbers: all to the bit."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from data_golden import CARRIED, Dataset, read
from numpy.typing import NDArray

from kmax.config import SmallInstances
from kmax.data.augmentation.colour_policies import (
    FULL_POLICY,
    SCALED_POLICY,
    enhancement_factor,
    select_steps,
    solarize_threshold,
)
from kmax.data.augmentation.copy_paste import paste
from kmax.data.augmentation.training_view import ViewParameters, render
from kmax.data.augmentation.view import ImageTargets, View, targets_of
from kmax.data.batch import Batch
from kmax.data.geometry import fit_size, scaled_size
from kmax.data.image_source import PADDING_OWNER
from kmax.losses.loss_terms import small_instance_weights

SMALL_IN_SAMPLE = 100  # pixels: the recorded samples are small, so is what counts as small in them
FIRST, SECOND = slice(0, 9), slice(9, 18)  # draws for the image, and for the one to be pasted


def by_first_appearance(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ids [H, W] renumbered from 0 in the order in which a reader meets them; negative ones become -1."""
    seen, first = np.unique(ids, return_index=True)
    order = [number for _, number in sorted(zip(first, seen.tolist(), strict=True)) if number >= 0]
    new = np.full(int(seen.max(initial=0)) + 2, -1)
    new[order] = np.arange(len(order))
    return new[ids]


def assert_targets(
    view: View, isthing: NDArray[np.bool_], wanted: dict[str, NDArray], case: str, small: int | None
) -> None:
    """Compare with what was recorded for a whole label map; `isthing` [K] by class."""
    targets, ignore = targets_of(view, stride=1), Dataset(case).ignore
    semantic = np.where(targets.semantic < 0, ignore, targets.semantic)
    np.testing.assert_array_equal(semantic, wanted["semantic_gt"])
    things = isthing[targets.classes]
    of_things = np.where((targets.segments >= 0) & things[targets.segments], targets.segments, -1)
    np.testing.assert_array_equal(by_first_appearance(of_things), wanted["thing_id_mask_gt"])
    inside = of_things >= 0
    classes = wanted["thing_id_class_gt"][wanted["thing_id_mask_gt"]]
    np.testing.assert_array_equal(classes[inside], targets.classes[of_things[inside]])
    assert (wanted["thing_id_class_gt"] >= 0).sum() == things.sum()
    assert ((targets.thing_areas > 0) == things).all()
    if small is not None:
        for stride in (1, 4):
            weights = weights_of(targets_of(view, stride), isthing, SmallInstances(area=small, weight=3.0))
            recorded = wanted["semantic_loss_weight"][::stride, ::stride]
            np.testing.assert_array_equal(weights, recorded)


def weights_of(
    targets: ImageTargets, isthing: NDArray[np.bool_], small: SmallInstances
) -> NDArray[np.float32]:
    batch = Batch(
        images=torch.zeros(0),
        segments=torch.from_numpy(targets.segments)[None],
        semantic=torch.from_numpy(targets.semantic)[None],
        classes=[torch.from_numpy(targets.classes)],
        image_ids=[0],
        content_sizes=[(0, 0)],
        original_sizes=[(0, 0)],
        thing_areas=[torch.from_numpy(targets.thing_areas)],
    )
    return small_instance_weights(batch, torch.from_numpy(isthing), small)[0].numpy()


def thing_table(dataset: Dataset) -> NDArray[np.bool_]:
    return np.isin(np.arange(256), dataset.things)


@pytest.mark.parametrize("case", ["coco", "cityscapes", "cityscapes_threshold_150", "ade20k"])
def test_targets(case: str) -> None:
    facts, arrays = read("targets")
    about = next(entry for entry in facts["cases"] if entry["name"] == case)
    dataset = Dataset(case)
    decoded, ids = dataset.decoded(arrays[f"{case}__image"], arrays[f"{case}__label"])
    labels = dataset.crowd(decoded.labels, ids)
    view = View(decoded.rgb, decoded.owner.astype(np.int32), labels, decoded.owner.shape)
    small = about["small"]["threshold"] if about["small"] else None
    wanted = {
        key.removeprefix(f"{case}__"): value for key, value in arrays.items() if key.startswith(f"{case}__")
    }
    assert_targets(view, thing_table(dataset), wanted, case, small)
    targets = targets_of(view, stride=1)
    crowd = (targets.segments < 0) & (targets.semantic >= 0)
    np.testing.assert_array_equal(crowd, wanted["is_crowd_gt"])


@pytest.mark.parametrize("case", range(5))
def test_pasting(case: int) -> None:
    facts, arrays = read("copy_paste")
    about = facts["cases"][case]
    name, padding = about["name"], about["padding_label_of_pasted"]
    dataset, views, numbers = Dataset(name), [], []
    for which in ("canvas", "pasted"):
        image, label = arrays[f"{name}__{which}_image"], arrays[f"{name}__{which}_label"]
        decoded, ids = dataset.decoded(image, np.where(label == padding, dataset.void, label))
        owner = np.where(label == padding, PADDING_OWNER, decoded.owner.astype(np.int32))
        views.append(View(image, owner, dataset.crowd(decoded.labels, ids), owner.shape))
        numbers.append(ids)
    canvas, pasted = views
    flags = dict(map(tuple, about["keep_flag_by_id_in_first_seen_order"]))
    keep = pasted.labels.isthing | np.array([bool(flags[number]) for number in numbers[1]])
    merged = paste(canvas, pasted, keep)
    np.testing.assert_array_equal(merged.pixels, arrays[f"{name}__merged_image"])
    names = np.array([dataset.void, *numbers[0], *dataset.pasted(numbers[1])])
    np.testing.assert_array_equal(names[merged.owner.clip(min=0)], arrays[f"{name}__merged_label"])


@pytest.mark.parametrize("case", [0, 1], ids=["coco", "cityscapes"])
def test_whole_samples(case: int) -> None:
    facts, arrays = read("end_to_end")
    about = facts["cases"][case]
    name, target = about["name"], (about["crop"][0], about["crop"][1])
    policy = FULL_POLICY if about["policy"] == "simple_classification_policy" else SCALED_POLICY
    dataset, views, numbers = Dataset(name), [], []
    for which, part in (("1", FIRST), ("2", SECOND)):
        decoded, ids = dataset.decoded(arrays[f"{name}__image{which}"], arrays[f"{name}__label{which}"])
        scale, pair, *draws = (
            entry.get("value", entry.get("result")) for entry in about["draws_in_order"][part]
        )
        original = decoded.rgb.shape[:2]
        fitted = fit_size(original, target) if about["min_max_resize"] else original
        u0, u1, top, left, row, column, flip = draws
        drawn = ViewParameters(
            sizes=[fitted, scaled_size(fitted, scale[0])],
            color_transform=select_steps(policy[pair], [u0, u1]),
            offset=(top, left),
            start=(row, column),
            flip=flip <= 0.5,
        )
        view = render(decoded, drawn, target, "tf")
        views.append(dataclasses.replace(view, labels=dataset.crowd(view.labels, ids)))
        numbers.append(ids)
    canvas, pasted = views
    flags = about["draws_in_order"][-1]["result"]
    flat = pasted.owner.ravel()
    first = np.sort(np.unique(flat, return_index=True)[1])
    regions = dict(zip(flat[first].tolist(), flags, strict=True))
    chosen_at_random = np.array([bool(regions.get(i + 1, 0)) for i in range(len(pasted.labels))])
    merged = paste(canvas, pasted, chosen_at_random | pasted.labels.isthing)
    wanted = {key: arrays[f"{name}__out_{key}"] for key in ("image", "panoptic_gt", "semantic_gt")}
    for key in ("semantic_loss_weight", "thing_id_mask_gt", "thing_id_class_gt"):
        wanted[key] = arrays[f"{name}__out_{key}"]
    np.testing.assert_array_equal(merged.pixels, wanted["image"])
    names = np.array([dataset.void, *numbers[0], *dataset.pasted(numbers[1])])
    np.testing.assert_array_equal(names[merged.owner.clip(min=0)], wanted["panoptic_gt"])
    small = SMALL_IN_SAMPLE if name == "cityscapes" else None
    assert_targets(merged, thing_table(dataset), wanted, name, small)


def test_magnitudes() -> None:
    tables = json.loads((CARRIED / "autoaugment.json").read_text())["argument_for_magnitude"]
    for operation in ("Color", "Contrast", "Brightness", "Sharpness"):
        for magnitude, (factor,) in tables[operation]:
            assert enhancement_factor(magnitude) == pytest.approx(factor, rel=1e-12)
    for magnitude, (threshold,) in tables["Solarize"]:
        assert solarize_threshold(magnitude) == threshold
