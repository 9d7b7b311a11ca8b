"""Which parameters decay and which learn at the backbone rate, in the recorded configs of both originals."""

import json
from pathlib import Path

import pytest
import torch

import kmax
from kmax.config import Train
from kmax.model.kmax import KMaX
from kmax.porting.torch_names import torch_reference_entries
from kmax.runs.families import load_run
from kmax.training.optimizer import make_optimizer, parameter_groups

TORCH_CONFIGS = {
    "coco_r50": "kmax_resnet50",
    "coco_convnext_tiny": "kmax_convnext_tiny",
    "coco_convnext_small": "kmax_convnext_small",
    "coco_convnext_base": "kmax_convnext_base",
    "coco_convnext_large": "kmax_convnext_large",
    "cityscapes_r50": "kmax_resnet50",
    "cityscapes_convnext_large": "kmax_convnext_large",
    "ade20k_r50": "kmax_resnet50",
    "ade20k_convnext_large": "kmax_convnext_large",
}
TF_CONFIGS = {
    "coco_r50": "kmax_resnet50",
    "coco_convnext_tiny": "kmax_convnext_tiny",
    "coco_axial_r50": "kmax_max_s",
}
SHAPES = {
    "coco": {"num_classes": 133},
    "cityscapes": {"num_classes": 19, "num_clusters": 256, "decoder_stages": 5},
    "ade20k": {"num_classes": 150},
}


def model_of(config: str, name: str, flavour: str) -> KMaX:
    with torch.device("meta"):
        return kmax.create_model(name, image_size=(129, 129), flavour=flavour, **SHAPES[config.split("_")[0]])


def recipe(**changes: object) -> Train:
    train = load_run("shapes-smoke").train
    assert train is not None
    return train.model_copy(update=changes)


def settings(model: KMaX, train: Train) -> dict[str, tuple[float, float]]:
    """(multiplier, weight decay) of every parameter, by name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group["multiplier"], group["weight_decay"])
        for group in parameter_groups(model, train)
        for parameter in group["params"]
    }


@pytest.mark.parametrize("config", TORCH_CONFIGS)
def test_groups_of_the_pytorch_original(golden: Path, config: str) -> None:
    recorded = json.loads((golden / f"torch_reference/param_groups/{config}.json").read_text())
    model = model_of(config, TORCH_CONFIGS[config], "torch")
    train = recipe(
        weight_decay=0.05,
        backbone_lr_multiplier=0.1,
        learning_rate=recorded["base_lr"],
        adam_betas=recorded["betas"],
        adam_epsilon=recorded["eps"],
    )
    ours = settings(model, train)
    by_source = {entry.sources[0]: ours.pop(entry.target, None) for entry in torch_reference_entries(model)}
    assert not ours
    assert {name: value for name, value in by_source.items() if value is not None} == {
        name: (multiplier, decay) for name, multiplier, decay in recorded["rows"]
    }
    optimizer = make_optimizer(model, train, "torch")
    assert type(optimizer).__name__ == recorded["optimizer"]
    for group in optimizer.param_groups:
        assert (*group["betas"], group["eps"]) == (*recorded["betas"], recorded["eps"])
        assert group["amsgrad"] == recorded["amsgrad"]


@pytest.mark.parametrize("config", TF_CONFIGS)
def test_groups_of_the_tensorflow_original(golden: Path, config: str) -> None:
    recorded = json.loads((golden / "tf_data/weight_decay.json").read_text())[config]
    model = model_of(config, TF_CONFIGS[config], "tf")
    ours = settings(model, recipe(weight_decay=0.05, backbone_lr_multiplier=0.1))
    values = {name: parameter.numel() for name, parameter in model.named_parameters()}
    decayed = [name for name, (_, decay) in ours.items() if decay == 0.05]
    assert len(ours) == recorded["n_trainable"]
    assert len(decayed) == sum(recorded["decayed_by_last_name"].values())
    assert len(ours) - len(decayed) == sum(recorded["not_decayed_by_last_name"].values())
    assert sum(values[name] for name in decayed) == recorded["n_params_decayed"]
    assert sum(values.values()) == recorded["n_params"]
    assert sum(multiplier == 0.1 for multiplier, _ in ours.values()) == recorded["n_encoder_trainable"]
