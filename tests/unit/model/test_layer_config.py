"""Activation, epsilon and output stride as arguments, compared with plain torch and with stride 32."""

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kmax.config.model_sizes import (
    SIZES,
    AxialResNetSize,
    AxialSize,
    ConvNeXtSize,
    ResNetSize,
    StageSize,
    TimmSize,
)
from kmax.model.activation import Activate
from kmax.model.layers import ConvBN, EncoderConfig, LayerConfig, LinearBN
from kmax.model.model_flavour import MODEL_FLAVOURS
from kmax.model.norm import BatchNorm
from kmax.model.pixel_encoder import pixel_encoder
from kmax.model.residual import ResidualBlock

REFERENCES = {"gelu": nn.GELU, "relu": nn.ReLU, "hard_swish": nn.Hardswish}
BOTTLENECKS = AxialResNetSize((8, 8, 16), tuple(StageSize(width, 2, None) for width in (4, 6, 8, 10)))


def maps(*shape: int) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=torch.channels_last)


def reference(layer: ConvBN, activation: str, epsilon: float) -> nn.Sequential:
    """The same layer of torch's own modules."""
    norm = nn.BatchNorm2d(layer.norm.channels, eps=epsilon, momentum=0.01)
    return nn.Sequential(layer.conv, norm, REFERENCES[activation]())


@pytest.mark.parametrize("epsilon", [1e-5, 1e-3])
@pytest.mark.parametrize("activation", list(REFERENCES))
def test_a_layer_computes_what_torchs_modules_compute(activation, epsilon):
    torch.manual_seed(0)
    layer = ConvBN(6, 8, 3, act=True, layers=LayerConfig(activation, epsilon))
    plain = reference(layer, activation, epsilon)
    ours, theirs = (maps(2, 6, 9, 9).mul_(0.01).requires_grad_() for _ in range(2))
    expected = plain(theirs)
    found = layer(ours)
    torch.testing.assert_close(found, expected)
    grad = maps(*found.shape)
    found.backward(grad)
    expected.backward(grad)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.norm.weight.grad, plain[1].weight.grad, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(layer.eval()(ours), plain.eval()(theirs))


def test_the_epsilon_counts_where_values_are_small():
    x = maps(2, 4, 5, 5) * 0.01
    small, large = (BatchNorm(4, eps=epsilon)(x) for epsilon in (1e-5, 1e-3))
    assert small.std() > 2 * large.std()


def test_tokens_are_activated_as_pixels_are():
    layer = LinearBN(6, 4, act=True, layers=LayerConfig("relu", 1e-5))
    assert layer.norm.eps == 1e-5
    assert (layer(torch.randn(2, 5, 6)) >= 0).all()


@pytest.mark.parametrize("axial", [None, AxialSize(heads=2, span=9)])
def test_a_residual_block_has_one_activation_and_one_epsilon(axial):
    block = ResidualBlock(16, StageSize(4, 1, axial), layers=LayerConfig("relu", 1e-5))
    x = torch.randn(2, 16, 5, 5)
    torch.testing.assert_close(block(x), F.relu(x))
    assert {module.eps for module in block.modules() if isinstance(module, BatchNorm)} == {1e-5}
    assert {module.name for module in block.modules() if isinstance(module, Activate)} <= {"relu"}


def encoders(size, flavour: str, layers: LayerConfig) -> list[nn.Module]:
    """The same encoder at the output strides 32 and 16."""
    made = []
    for stride in (32, 16):
        torch.manual_seed(0)
        config = EncoderConfig(MODEL_FLAVOURS[flavour], output_stride=stride, layers=layers)
        made.append(pixel_encoder(size, config).eval())
    made[1].load_state_dict(made[0].state_dict())
    return made


@pytest.mark.parametrize("flavour", list(MODEL_FLAVOURS))
@pytest.mark.parametrize("size", [BOTTLENECKS, ResNetSize("resnet26")], ids=["own", "timm"])
@torch.no_grad()
def test_at_stride_16_every_second_pixel_is_that_of_stride_32(size, flavour):
    """Dilated convolutions on the dense map see the pixels that strided ones see."""
    strided, dilated = encoders(size, flavour, LayerConfig("relu", 1e-5))
    for module in strided.modules():
        if isinstance(module, BatchNorm):
            module.weight.uniform_(0.5, 1.5)  # residual branches that count
    dilated.load_state_dict(strided.state_dict())
    images = maps(1, 3, 65, 97)
    coarse, fine = strided(images), dilated(images)
    assert [tuple(x.shape[2:]) for x in fine[-2:]] == [(5, 7), (5, 7)]
    for ours, theirs in zip(fine[:-1], coarse[:-1], strict=True):
        torch.testing.assert_close(ours, theirs)
    assert fine[-1].std() > 0
    torch.testing.assert_close(fine[-1][:, :, ::2, ::2], coarse[-1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_resnet_at_stride_16_is_timms():
    _, ours = encoders(ResNetSize("resnet26"), "torch", LayerConfig("relu", 1e-5))
    theirs = timm.create_model("resnet26", features_only=True, output_stride=16).eval()
    theirs.load_state_dict(ours.network.state_dict(), strict=False)
    images = maps(1, 3, 65, 97)
    torch.testing.assert_close(ours(images)[-1], theirs(images)[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "size", [SIZES["kmax_max_s"].encoder, ConvNeXtSize("convnext_atto"), TimmSize("resnet10t")]
)
@torch.no_grad()
def test_other_encoders_stop_striding_at_16(size):
    strided, dilated = encoders(size, "tf", LayerConfig("relu", 1e-5))
    images = maps(1, 3, 65, 97)
    assert strided(images)[-1].shape[2:] == (3, 4)
    assert [tuple(x.shape[2:]) for x in dilated(images)[-2:]] == [(5, 7), (5, 7)]


def test_max_s_dilates_from_the_second_block_of_its_last_stage_on():
    _, dilated = encoders(BOTTLENECKS, "tf", LayerConfig())
    found = [[block.middle.conv.dilation[0] for block in stage] for stage in dilated.stages]
    assert found == [[1, 1], [1, 1], [1, 1], [1, 2]]


def test_every_norm_of_an_encoder_has_the_epsilon():
    for size in (BOTTLENECKS, ResNetSize("resnet26"), SIZES["kmax_tiny"].encoder):
        config = EncoderConfig(MODEL_FLAVOURS["tf"], layers=LayerConfig("relu", 1e-5))
        norms = [m for m in pixel_encoder(size, config).modules() if isinstance(m, BatchNorm)]
        assert {norm.eps for norm in norms} == {1e-5}
