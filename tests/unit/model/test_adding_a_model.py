"""A further model is one entry of the table of sizes: every place that takes a name takes the new one."""

import dataclasses

import pytest
import torch
from pydantic import ValidationError

import kmax
from kmax.config import Category, Model
from kmax.config.model_sizes import SIZES, ConvNeXtSize, ResNetSize, TimmSize
from kmax.errors import InputError
from kmax.model.io import load_model, save_model

ENCODERS = {
    "resnet": ResNetSize("resnet26"),
    "convnext": ConvNeXtSize("convnext_atto"),
    "plain": TimmSize("resnet18"),
}


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=list(ENCODERS))
def test_an_entry_of_the_table_is_all_that_a_backbone_of_timm_needs(encoder, monkeypatch, tmp_path):
    monkeypatch.setitem(SIZES, "kmax_new", dataclasses.replace(SIZES["kmax_tiny"], encoder=encoder))
    arguments = {
        "name": "kmax_new",
        "flavour": "torch",
        "num_clusters": 4,
        "decoder_stages": 4,
        "cross_attention": "kmeans",
        "drop_path": 0.0,
        "backbone_drop_path": 0.1,
    }
    section = Model.model_validate(arguments)  # of a run file
    model = kmax.create_model(**section.model_dump(), num_classes=2, image_size=(65, 97))
    output = model(torch.randn(2, 3, 65, 97))
    assert output.mask_logits.shape == (2, 4, 17, 25)
    output.mask_logits.sum().backward()
    categories = [Category(id=i, name=str(i), isthing=True, color=[0, 0, i]) for i in range(2)]
    save_model(model, tmp_path / "new.safetensors", categories)
    again, metadata = load_model(tmp_path / "new.safetensors")
    assert metadata.arguments == model.arguments == again.arguments


def test_a_name_that_is_not_in_the_table_is_refused_by_run_files():
    with pytest.raises(ValidationError, match=r"unknown model 'kmax_new'; available: kmax_resnet50, "):
        Model.model_validate({"name": "kmax_new"})


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (ResNetSize("resnet18"), r"ResNetSize\('resnet18'\): not a ResNet of plain bottleneck blocks"),
        (ResNetSize("resnet50d"), "not a ResNet of plain bottleneck blocks"),
        (ResNetSize("seresnet50"), "not a ResNet of plain bottleneck blocks"),
        (ConvNeXtSize("resnet18"), r"ConvNeXtSize\('resnet18'\): not a ConvNeXt"),
        (TimmSize("resnet1"), r"TimmSize\('resnet1'\): timm has no network of this name"),
    ],
)
def test_a_network_of_another_kind_is_named(encoder, message, monkeypatch):
    monkeypatch.setitem(SIZES, "kmax_new", dataclasses.replace(SIZES["kmax_tiny"], encoder=encoder))
    with pytest.raises(InputError, match=message):
        kmax.create_model("kmax_new", num_classes=2, image_size=(65, 65))
