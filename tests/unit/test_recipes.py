"""The runs of the paper's networks train by the recipes of the TensorFlow original."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kmax.config import Run
from kmax.runs import families
from kmax.runs.families import load_run

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {
    "resnet50": "kmax_meta_r50_os32",
    "max_s": "kmax_meta_axial_r50_os32",
    "convnext_t": "kmax_meta_convnext_tiny_os32",
    "convnext_s": "kmax_meta_convnext_small_os32",
    "convnext_b": "kmax_meta_convnext_base_os32",
    "convnext_l": "kmax_meta_convnext_large_os32",
}
TRAINED = [
    *(f"{dataset}-{model}" for dataset in ("coco", "cityscapes") for model in CONFIGS),
    *(f"ade20k-{model}-{side}" for model in ("resnet50", "convnext_l") for side in (641, 1281)),
]
# deeplab2's defaults, which its configs omit.
SMALL_INSTANCE_AREA, TEMPERATURE = 4096, 0.6
SLOTS = {"coco": 128, "ade20k": 128, "cityscapes": 256}
TRANSFORMER_DROP_PATH = {"coco": 0.2, "cityscapes": 0.2, "ade20k": 0.0}


@pytest.fixture(scope="module")
def recipes(facts: Path) -> dict[str, Any]:
    return json.loads((facts / "training_recipes.json").read_text())["tf"]


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def recipe_of(name: str, recipes: dict[str, Any]) -> dict[str, Any]:
    dataset, model, *size = name.split("-")
    config = CONFIGS[model] + ("_res1281" if size == ["1281"] else "")
    return recipes[f"configs/{dataset}/kmax_deeplab/{config}.textproto"]


def compared(run: Run, recipe: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(what, the run's, the recipe's)."""
    images, trainer, model = (
        recipe["train_dataset_options"],
        recipe["trainer_options"],
        recipe["model_options"],
    )
    solver, terms, heads = trainer["solver_options"], trainer["loss_options"], model["max_deeplab"]
    policy, after = images["augmentations"], recipe["evaluator_options"]
    data, train, predict = run.data, run.train, run.predict
    assert train is not None
    assert data.augmentation is not None
    assert data.augmentation.copy_paste is not None
    losses = train.losses
    paste, semantic, masks = (
        policy["panoptic_copy_paste"],
        terms["semantic_loss"],
        after["maskwise_postprocessing"],
    )
    small = (
        (SMALL_INSTANCE_AREA, images["small_instance_weight"])
        if images["increase_small_instance_weights"]
        else None
    )
    ours_small = losses.small_instances and (losses.small_instances.area, losses.small_instances.weight)
    yield "crop", data.image_size, images["crop_size"]
    yield "native size", data.native_size, images["max_resize_value"] == 0
    yield "scales", data.augmentation.scale, [policy["min_scale_factor"], policy["max_scale_factor"]]
    yield "step", data.augmentation.scale_step, policy["scale_factor_step_size"]
    yield "colours", data.augmentation.color_policy, policy["autoaugment_policy_name"]
    yield "paste", data.augmentation.copy_paste.scale_factor, paste["panoptic_copy_paste_scale"]
    yield "model", run.model.name, model["backbone"]["name"].replace("axial_resnet50", "max_s")
    yield "drop", 1 - run.model.backbone_drop_path, pytest.approx(model["backbone"]["drop_path_keep_prob"])
    yield "slots", run.model.num_clusters, SLOTS[data.dataset]
    yield "drop of the transformer", run.model.drop_path, TRANSFORMER_DROP_PATH[data.dataset]
    yield "flavour", (run.model.flavour, data.preprocessing, train.optimizer), ("tf", "tf", None)
    yield "steps", train.steps, solver["training_number_of_steps"]
    yield "batch", train.global_batch_size, images["batch_size"]
    yield "rate", train.learning_rate, solver["base_learning_rate"]
    yield "warm-up", train.warmup_steps, solver["warmup_steps"]
    yield "encoder's rate", train.backbone_lr_multiplier, solver["backbone_learning_rate_multiplier"]
    yield "decay", train.weight_decay, solver["adamw_weight_decay"]
    start = "pretrained_weights" in model["backbone"] or "initial_checkpoint" in model
    yield "ImageNet", train.weights is not None, start
    yield "class and dice", {losses.class_weight, losses.dice_weight}, {terms["pq_style_loss"]["weight"]}
    yield "mask id", losses.mask_id_weight, terms["mask_id_cross_entropy_loss"]["weight"]
    yield "instances", losses.instance_discrimination_weight, terms["instance_discrimination_loss"]["weight"]
    yield "semantic", losses.semantic_weight, semantic["weight"]
    yield "worst pixels", losses.semantic_top_k, semantic.get("top_k_percent")
    yield "small instances", ours_small, small
    yield "pixels drawn", losses.sample_k, heads["instance_discrimination_sample_k"]
    temperature = heads.get("instance_discrimination_sample_temperature", TEMPERATURE)
    yield "temperature", losses.sample_temperature, temperature
    yield "pixel threshold", predict.pixel_threshold, after["pixel_confidence_threshold"]
    yield "things", predict.class_threshold_thing, masks["transformer_class_confidence_threshold_thing"]
    yield "stuff", predict.class_threshold_stuff, masks["transformer_class_confidence_threshold_stuff"]
    yield "overlap", predict.overlap_threshold, masks["overlapping_threshold"]
    areas = (predict.thing_area_limit, predict.stuff_area_limit)
    yield "areas", areas, (after["thing_area_limit"], after["stuff_area_limit"])


@pytest.mark.parametrize("name", TRAINED)
def test_a_run_has_the_recipe_of_the_original(name: str, recipes: dict[str, Any]) -> None:
    differences = [
        (what, ours, theirs)
        for what, ours, theirs in compared(load_run(name), recipe_of(name, recipes))
        if ours != theirs
    ]
    assert differences == []


def test_the_families_hold_the_runs_of_all_sizes() -> None:
    known = families.families()
    listed = [run for family in ("coco", "cityscapes", "ade20k") for run in known[family].trained]
    assert sorted(listed) == sorted(TRAINED)


@pytest.mark.parametrize("name", TRAINED)
def test_a_trained_run_is_judged_as_the_published_weights_are(name: str) -> None:
    ours, published = load_run(name), load_run(f"{name}-tfzoo")
    assert (ours.predict, ours.evaluate) == (published.predict, published.evaluate)
    assert ours.data.model_copy(update={"augmentation": None}) == published.data
