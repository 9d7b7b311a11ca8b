"""The assembled network: shapes, what it refuses, and what training may and may not change."""

import inspect
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from tiny_model import tiny

import kmax
from kmax.config import ModelArguments
from kmax.errors import InputError


def strided(size: tuple[int, int], stride: int) -> tuple[int, int]:
    return math.ceil(size[0] / stride), math.ceil(size[1] / stride)


@pytest.mark.parametrize("size", [(129, 129), (129, 257), (257, 129), (97, 161), (385, 131)])
def test_outputs_have_the_shapes_of_their_strides(model, size):
    with torch.no_grad():
        output = model(torch.rand(2, 3, *size) * 2 - 1, semantic=True)
    assert output.class_logits.shape == (2, 16, 9)
    assert output.mask_logits.shape == (2, 16, *strided(size, 4))
    assert output.pixel_features.shape[2:] == strided(size, 4)
    assert output.semantic_logits.shape == (2, 9, *strided(size, 4))
    for layer, stride in zip(output.auxiliary, (32, 32, 16, 16, 8, 8), strict=True):
        assert layer.class_logits.shape == (2, 16, 9)
        assert layer.mask_logits.shape == (2, 16, *strided(size, stride))
        assert layer.pixel_features.shape[2:] == strided(size, stride)
        assert layer.assignment.shape == (2, *strided(size, stride))


def test_semantic_logits_come_in_training_or_on_request(model):
    images = torch.zeros(1, 3, 65, 65)
    with torch.no_grad():
        assert model(images).semantic_logits is None
        assert model(images, semantic=True).semantic_logits is not None
    assert tiny()(images).semantic_logits is not None


def test_five_stages_give_a_finer_decoder_and_a_coarse_semantic_head_without_void():
    five = tiny(decoder_stages=5).eval()
    with torch.no_grad():
        output = five(torch.zeros(1, 3, 65, 97), semantic=True)
    assert output.mask_logits.shape[2:] == (33, 49)
    assert (five.output_stride, tiny().output_stride) == (2, 4)
    assert output.semantic_logits.shape == (1, 8, 3, 4)


def test_pixels_are_assigned_to_the_cluster_of_the_largest_mask_logit(model):
    with torch.no_grad():
        output = model(torch.randn(2, 3, 129, 129).clamp(-1, 1))
    for layer in output.auxiliary:
        assert torch.equal(layer.assignment, layer.mask_logits.argmax(1))


def test_pixel_features_have_length_one(model):
    with torch.no_grad():
        output = model(torch.randn(1, 3, 129, 129).clamp(-1, 1))
    for features in [output.pixel_features, *(layer.pixel_features for layer in output.auxiliary)]:
        torch.testing.assert_close(features.norm(dim=1), torch.ones_like(features[:, 0]))


def test_void_starts_with_nine_tenths(model):
    with torch.no_grad():
        output = model(torch.zeros(1, 3, 65, 65))
    assert output.class_logits.softmax(-1)[..., -1].mean().item() == pytest.approx(0.9, abs=0.05)


def test_every_parameter_learns_once_the_zero_scales_have_moved():
    """With norm scales at zero a residual branch gets no gradient in the first step, by design."""
    learner = tiny(drop_path=0.0)
    for name, parameter in learner.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.ones_(parameter)
    output = learner(torch.randn(2, 3, 65, 97).clamp(-1, 1))
    total = sum((t * torch.randn_like(t)).sum() for t in (output.class_logits, output.mask_logits))
    total = total + (output.semantic_logits * torch.randn_like(output.semantic_logits)).sum()
    total = total + (output.pixel_features * torch.randn_like(output.pixel_features)).sum()
    for layer in output.auxiliary:
        for tensor in (layer.class_logits, layer.mask_logits, layer.pixel_features):
            total = total + (tensor * torch.randn_like(tensor)).sum()
    total.backward()
    without = [name for name, p in learner.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_the_same_seed_builds_the_same_model():
    torch.manual_seed(5)
    first = tiny().state_dict()
    torch.manual_seed(5)
    second = tiny().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_drop_path_changes_training_and_not_evaluation(model):
    dropping = tiny(drop_path=0.5, backbone_drop_path=0.5)
    dropping.load_state_dict(model.state_dict())
    images = torch.randn(1, 3, 65, 65).clamp(-1, 1)
    with torch.no_grad():
        torch.testing.assert_close(dropping.eval()(images).mask_logits, model(images).mask_logits)


def test_flavours_share_weights_and_compute_different_things(model):
    other = tiny(flavour="torch").eval()
    other.load_state_dict(model.state_dict())
    for norm in (other.pixel_decoder.stages[2][0].conv3.norm, model.pixel_decoder.stages[2][0].conv3.norm):
        torch.nn.init.ones_(norm.weight)
    images = torch.randn(1, 3, 65, 65).clamp(-1, 1)
    with torch.no_grad():
        difference = other(images).mask_logits - model(images).mask_logits
    torch.nn.init.zeros_(model.pixel_decoder.stages[2][0].conv3.norm.weight)
    assert difference.abs().max() > 1e-4


def test_weight_decay_spares_norms_biases_tables_and_centres(model):
    spared = model.no_weight_decay()
    assert "transformer_decoder.cluster_centers" in spared
    assert "pixel_decoder.stages.0.0.middle.0.height.query_positions.embeddings" in spared
    assert "predictor.class_head.bias" in spared
    assert "predictor.class_head.weight" not in spared
    assert {name for name, p in model.named_parameters() if p.dim() <= 1} <= spared


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(1, 3, 128, 129), "pad to 129x129"),
        (torch.zeros(1, 3, 129, 2100), "pad to 129x2101"),
        (torch.zeros(1, 3, 3, 2101), "1039 at most"),
        (torch.zeros(1, 1, 129, 129), r"\[B, 3, H, W\]"),
        (torch.zeros(3, 129, 129), r"\[B, 3, H, W\]"),
        (torch.zeros(0, 3, 129, 129), r"\[B, 3, H, W\]"),
        (torch.zeros(1, 3, 1, 129), "at least 3 pixels"),
        (np.zeros((1, 3, 129, 129), np.float32), "a tensor"),
        (torch.zeros(1, 3, 129, 129, dtype=torch.uint8), "float32"),
        (torch.zeros(1, 3, 129, 129, dtype=torch.float64), "float32"),
    ],
)
def test_wrong_images_are_refused(model, images, said):
    with pytest.raises(InputError, match=said):
        model(images)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_images_with_nan_are_named(model, wrong):
    images = torch.zeros(3, 3, 129, 129)
    images[1, 1, 5, 5] = wrong
    with pytest.raises(InputError, match="NaN or infinite values in image 1 of the batch"):
        model.eval()(images)


@pytest.mark.parametrize(
    "arguments",
    [{"image_size": 129}, {"image_size": (129, 129, 3)}, {"image_size": (129.0, 129)}, {"num_classes": "5"}],
)
def test_numbers_of_another_kind_are_refused(arguments):
    with pytest.raises(InputError, match=r"two whole numbers|expected a number, not the string '5'"):
        kmax.create_model("kmax_tiny", **({"num_classes": 5, "image_size": (129, 129)} | arguments))


@pytest.mark.parametrize("wrong", [255.0, -200.0])
def test_images_far_out_of_range_are_refused(model, wrong):
    images = torch.zeros(1, 3, 129, 129)
    images[0, 1, 5, 5] = wrong
    with pytest.raises(InputError, match=r"expected values in \[-1, 1\], not .* divide pixels"):
        model.eval()(images)


def test_noise_is_not_out_of_range(model):
    with torch.no_grad():
        model.eval()(torch.randn(1, 3, 129, 129, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image_size": (128, 128)}, "must be odd"),
        ({"flavour": "tensorflow"}, "flavour: input should be 'tf' or 'torch' .got 'tensorflow'"),
        ({"flavour": None}, "flavour: input should be 'tf' or 'torch' .got None"),
        ({"cross_attention": "kmean"}, "should be 'kmeans', 'cmt' or 'softmax'"),
        ({"num_cluster": 8}, "num_cluster: unknown key; allowed: .*num_clusters"),
        ({"num_classes": 0}, "num_classes"),
        ({"num_clusters": 0}, "num_clusters"),
        ({"decoder_stages": 3}, "decoder_stages: input should be greater than or equal to 4"),
        ({"decoder_stages": 4.0}, "decoder_stages: input should be a valid integer"),
        ({"drop_path": 1.0}, "drop_path"),
        ({"drop_path": "0.1"}, "drop_path: expected a number, not the string '0.1'"),
    ],
)
def test_impossible_arguments_are_refused(changes, said):
    with pytest.raises(InputError, match=said):
        tiny(**changes)


def test_an_unknown_model_names_those_that_exist():
    with pytest.raises(InputError, match=r"kmax_resnet50, .*kmax_tiny"):
        kmax.create_model("kmax_huge", num_classes=8, image_size=(129, 129))


def test_importing_the_package_does_not_import_torch():
    code = "import sys, kmax; sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_signature_lists_every_argument_with_its_default() -> None:
    parameters = inspect.signature(kmax.create_model).parameters
    assert set(parameters) == {*ModelArguments.model_fields, "weights"}
    assert parameters["num_classes"].default is inspect.Parameter.empty
    assert parameters["num_clusters"].default == 128
