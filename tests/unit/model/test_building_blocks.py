"""Building blocks: axial attention by its definition, fusions, initial values."""

import math

import pytest
import torch
from tiny_model import tiny
from torch.nn import functional as F

from kmax.config.model_sizes import SIZES, AxialSize, StageSize
from kmax.errors import InputError
from kmax.model.axial import AxialAttention, AxisAttention, RelativePositions
from kmax.model.layers import ConvBN, EncoderConfig, l2_normalize, resize
from kmax.model.model_flavour import MODEL_FLAVOURS
from kmax.model.pixel_decoder import ResizedFuse
from kmax.model.pixel_encoder import ConvNeXtEncoder
from kmax.model.residual import ResidualBlock

TRUNCATED = 0.8796  # standard deviation of a unit normal cut at two


def test_relative_positions_are_indexed_by_key_minus_query():
    positions = RelativePositions(span=5, channels=2)
    table = positions(3)
    assert table.shape == (3, 3, 2)
    assert torch.equal(table[0, 2], positions.embeddings[4 + 2])
    assert torch.equal(table[2, 0], positions.embeddings[4 - 2])


def test_an_axis_longer_than_the_table_is_refused():
    with pytest.raises(InputError, match="span of 5"):
        RelativePositions(span=5, channels=2)(6)


def test_column_attention_follows_its_definition():
    """Head by head, query by query, for one column, with norms at their moving statistics."""
    torch.manual_seed(0)
    heads, key, value = 2, 4, 6
    attention = AxisAttention(3, key, value, heads, span=4, along_height=True).eval()
    for norm in (attention.qkv_norm, attention.similarity_norm, attention.output_norm):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 1.5)
    x = torch.randn(1, 3, 4, 2)
    with torch.no_grad():
        out = attention(x)
        qkv = attention.qkv_norm(attention.qkv(x))[0, :, :, 1]  # second column, [C, L]
        q, k, v = qkv.split([key, key, value])
        rq, rk, rv = (
            table.embeddings
            for table in (attention.query_positions, attention.key_positions, attention.value_positions)
        )
        logits = torch.zeros(3 * heads, 4, 4)
        for head in range(heads):
            qh, kh = q.view(heads, -1, 4)[head], k.view(heads, -1, 4)[head]
            for i in range(4):
                for j in range(4):
                    logits[head, i, j] = qh[:, i] @ kh[:, j]
                    logits[heads + head, i, j] = qh[:, i] @ rq[j - i + 3]
                    logits[2 * heads + head, i, j] = kh[:, j] @ rk[j - i + 3]
        logits = attention.similarity_norm(logits[None])[0].view(3, heads, 4, 4).sum(0)
        weights = logits.softmax(-1)
        retrieved = torch.zeros(2, heads, value // heads, 4)
        for head in range(heads):
            vh = v.view(heads, -1, 4)[head]
            for i in range(4):
                for j in range(4):
                    retrieved[0, head, :, i] += weights[head, i, j] * vh[:, j]
                    retrieved[1, head, :, i] += weights[head, i, j] * rv[j - i + 3]
        expected = attention.output_norm(retrieved.view(1, 2 * value, 4))[0].view(2, value, 4).sum(0)
    torch.testing.assert_close(out[0, :, :, 1], expected, rtol=1e-4, atol=1e-5)


def test_rows_and_columns_are_attended_alike():
    torch.manual_seed(0)
    column = AxisAttention(3, 4, 6, 2, span=9, along_height=True).eval()
    row = AxisAttention(3, 4, 6, 2, span=9, along_height=False).eval()
    row.load_state_dict(column.state_dict())
    x = torch.randn(2, 3, 5, 7)
    torch.testing.assert_close(row(x), column(x.transpose(2, 3)).transpose(2, 3))


def test_axial_attention_lets_every_pixel_see_every_other():
    attention = AxialAttention(3, 4, 4, 2, span=9).eval()
    x = torch.randn(1, 3, 5, 7, requires_grad=True)
    attention(x)[0, :, 0, 0].sum().backward()
    assert (x.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize("axial", [None, AxialSize(heads=2, span=9)])
def test_a_new_residual_block_is_only_its_activated_shortcut(axial):
    block = ResidualBlock(16, StageSize(width=4, blocks=1, axial=axial), dilation=2)
    x = torch.randn(2, 16, 5, 5)
    torch.testing.assert_close(block(x), F.gelu(x))


def test_fusing_projects_only_what_has_other_channels():
    fuse = ResizedFuse(8, 4, 4, align_even=True)
    assert isinstance(fuse.high, torch.nn.Identity)
    low, high = torch.randn(1, 8, 3, 3), torch.randn(1, 4, 5, 5)
    expected = resize(fuse.low(low), (5, 5)) + high
    torch.testing.assert_close(fuse(low, high), expected)


def test_resize_keeps_the_corners():
    x = torch.randn(1, 2, 3, 5)
    up = resize(x, (9, 17))
    assert torch.equal(up[..., ::4, ::4], x[..., :, :]) or torch.allclose(up[..., ::4, ::4], x, atol=1e-6)
    assert resize(x, (3, 5)) is x


def test_the_two_normalisations_differ_only_near_zero():
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(l2_normalize(x, True), l2_normalize(x, False))
    small = torch.full((1, 1, 1, 1), 1e-7)
    assert l2_normalize(small, True).item() == pytest.approx(0.1)
    assert l2_normalize(small, False).item() == pytest.approx(1.0)


def test_a_kernels_initial_spread_follows_its_input_channels():
    torch.manual_seed(0)
    weight = ConvBN(256, 256, 3).conv.weight
    assert weight.std().item() == pytest.approx(TRUNCATED * math.sqrt(2 / 256), rel=0.01)
    assert weight.abs().max().item() <= 2 * math.sqrt(2 / 256) + 1e-6


def test_initial_values_follow_the_rules_of_the_originals():
    torch.manual_seed(0)
    model = tiny(num_clusters=128)
    state = model.state_dict()
    spread = {
        "transformer_decoder.cluster_centers": 1.0,
        "pixel_decoder.stages.0.0.middle.0.height.value_positions.embeddings": 1.0,
        "transformer_decoder.layers.2.predictor.class_head.weight": 0.01,
        "transformer_decoder.layers.2.predictor.pixel_head.2.conv.weight": 0.01,
        "transformer_decoder.layers.2.self_attention.qkv.linear.weight": 96**-0.5,
        "transformer_decoder.layers.2.cluster_update.value.conv.weight": 96**-0.5,
        "transformer_decoder.layers.2.ffn.0.linear.weight": math.sqrt(2 / 96),
        "semantic_head.classifier.2.weight": 0.01,
    }
    for name, std in spread.items():
        tolerance = 3 / math.sqrt(2 * state[name].numel())
        assert state[name].std().item() == pytest.approx(TRUNCATED * std, rel=tolerance), name
    scale = SIZES["kmax_tiny"].transformer.mask_norm_scale
    for layer in range(6):
        prefix = f"transformer_decoder.layers.{layer}."
        for name in ("self_attention.project", "cluster_update.project", "ffn.1"):
            assert not state[f"{prefix}{name}.norm.weight"].any()
        assert state[f"{prefix}predictor.mask_norm.weight"].item() == scale
    for stage in range(4):
        assert not state[f"pixel_decoder.stages.{stage}.0.conv3.norm.weight"].any()


def test_depthwise_kernels_start_by_xaviers_rule():
    torch.manual_seed(0)
    weight = ConvBN(64, 64, 5, depthwise=True).conv.weight
    bound = math.sqrt(6 / (25 + 64 * 25))
    assert weight.abs().max().item() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_convnext_strides_as_convolutions_do():
    encoder = ConvNeXtEncoder(SIZES["kmax_convnext_tiny"].encoder, EncoderConfig(MODEL_FLAVOURS["tf"]))
    convolution = encoder.network.stages[3].downsample[1]
    x = torch.randn(2, 384, 7, 10).to(memory_format=torch.channels_last)
    exact = F.conv2d(x.double(), convolution.weight.double(), convolution.bias.double(), stride=2)
    found = convolution(x)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-5)
