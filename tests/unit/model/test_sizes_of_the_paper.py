"""The models of the paper: what they refuse, shapes, strides, initial values, stochastic depth."""

import math

import pytest
import torch
from timm.layers import DropPath
from torch import nn

import kmax
from kmax.config.model_sizes import SIZES, AxialResNetSize
from kmax.errors import InputError
from kmax.model.kmax import KMaX
from kmax.model.layers import EncoderConfig
from kmax.model.model_flavour import MODEL_FLAVOURS
from kmax.model.pixel_encoder import pixel_encoder

PAPER = [name for name in SIZES if name != "kmax_tiny"]
TRUNCATED = 0.87962566  # standard deviation of a unit normal cut at two


def on_meta(name: str, **changes) -> KMaX:
    arguments = {"num_classes": 133, "image_size": (641, 641)} | changes
    with torch.device("meta"):
        return kmax.create_model(name, **arguments)


def features(name: str, flavour: str, height: int, width: int) -> list[torch.Tensor]:
    with torch.device("meta"):
        encoder = pixel_encoder(SIZES[name].encoder, EncoderConfig(MODEL_FLAVOURS[flavour]))
        return encoder(torch.empty(1, 3, height, width))


@pytest.mark.parametrize("name", PAPER)
@pytest.mark.parametrize("size", [(129, 257), (101, 135)])
def test_features_have_their_strides_on_any_odd_size(name: str, size: tuple[int, int]) -> None:
    stem_stride = 4 if "convnext" in name else 2
    found = [feature.shape[2:] for feature in features(name, "tf", *size)]
    strides = (stem_stride, 4, 8, 16, 32)
    assert found == [tuple(math.ceil(side / stride) for side in size) for stride in strides]


def test_the_pytorch_originals_resnet_pools_its_stem() -> None:
    assert features("kmax_resnet50", "torch", 129, 129)[0].shape[2:] == (33, 33)


def test_only_the_pooled_stem_comes_before_the_first_stage() -> None:
    orders = {
        (name, flavour): on_meta(name, flavour=flavour, decoder_stages=5).feature_of_stage
        for name in ("kmax_resnet50", "kmax_convnext_tiny")
        for flavour in MODEL_FLAVOURS
    }
    assert orders.pop(("kmax_resnet50", "torch")) == [4, 3, 2, 0, 1]
    assert set(map(tuple, orders.values())) == {(4, 3, 2, 1, 0)}


def test_max_s_exists_in_tensorflow_only() -> None:
    with pytest.raises(InputError, match="kmax_max_s does not exist in flavour 'torch'"):
        on_meta("kmax_max_s", flavour="torch")


@pytest.mark.parametrize("name", PAPER)
@torch.no_grad()
def test_cityscapes_and_ade20k_shapes(name: str) -> None:
    cityscapes = on_meta(
        name, num_classes=19, image_size=(1025, 2049), num_clusters=256, decoder_stages=5
    ).to_empty(device="cpu")
    output = cityscapes.eval()(torch.zeros(1, 3, 65, 97), semantic=True)
    assert output.mask_logits.shape[2:] == ((17, 25) if "convnext" in name else (33, 49))
    assert cityscapes.output_stride == (4 if "convnext" in name else 2)
    assert output.class_logits.shape == (1, 256, 20)
    assert output.semantic_logits.shape == (1, 19, 3, 4)
    ade20k = on_meta(name, num_classes=150).to_empty(device="cpu")
    output = ade20k.eval()(torch.zeros(2, 3, 65, 97), semantic=True)
    assert output.mask_logits.shape == (2, 128, 17, 25)
    assert output.semantic_logits.shape == (2, 151, 17, 25)
    assert [tuple(layer.assignment.shape[1:]) for layer in output.auxiliary[::2]] == [(3, 4), (5, 7), (9, 13)]


def test_a_model_runs_at_other_sizes_as_far_as_its_position_tables_reach() -> None:
    model = on_meta("kmax_resnet50", image_size=(129, 129))
    longest = 255 * 16 - 1
    model.check_image_size((33, longest), "images")
    for side in (longest + 2, 4 * longest + 1):
        with pytest.raises(InputError, match=f"{longest} at most"):
            model.check_image_size((33, side), "images")


def test_max_s_drops_more_the_deeper_an_axial_block_lies() -> None:
    size = SIZES["kmax_max_s"].encoder
    assert isinstance(size, AxialResNetSize)
    with torch.device("meta"):
        encoder = pixel_encoder(size, EncoderConfig(MODEL_FLAVOURS["tf"], 0.2))
    rates = [[round(block.drop_path.drop_prob, 6) for block in stage] for stage in encoder.stages]
    assert rates == [[0.0] * 3, [0.0] * 4, [0.0] + [0.15] * 5, [0.15, 0.2, 0.2]]


def test_convnext_drops_linearly_over_its_blocks() -> None:
    with torch.device("meta"):
        encoder = pixel_encoder(SIZES["kmax_convnext_tiny"].encoder, EncoderConfig(MODEL_FLAVOURS["tf"], 0.3))
    rates = [module.drop_prob for module in encoder.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.3 * i / 17 for i in range(1, 18)])


@pytest.fixture(scope="module", params=list(MODEL_FLAVOURS))
def fresh(request: pytest.FixtureRequest) -> KMaX:
    torch.manual_seed(0)
    return kmax.create_model("kmax_resnet50", num_classes=133, image_size=(129, 129), flavour=request.param)


def test_initial_weights_are_spread_by_the_rules(fresh: KMaX) -> None:
    """Mean and standard deviation of every weight within three standard errors; few exceed them by chance."""
    checked = beyond = 0
    for name, weight in fresh.named_parameters():
        std = expected_std(name, weight, fresh)
        if std is None or weight.numel() < 1000:
            continue
        checked += 2
        n = weight.numel()
        beyond += abs(weight.mean().item()) > 3 * std / math.sqrt(n)
        beyond += abs(weight.std().item() / std - 1) > 3 / math.sqrt(2 * n)
        assert abs(weight.std().item() / std - 1) < 6 / math.sqrt(2 * n), name
    assert checked > 300
    assert beyond <= 0.01 * checked


def expected_std(name: str, weight: torch.Tensor, model: KMaX) -> float | None:
    """Standard deviation by the rules of the originals; None where they say a constant."""
    if weight.dim() == 1:
        return None
    if name.startswith("pixel_encoder."):
        return math.sqrt(2 / (weight.shape[0] * weight[0, 0].numel()))  # He's, by the outputs
    if name.endswith(("cluster_centers", "embeddings")):
        return TRUNCATED
    if weight.dim() == 4 and weight.shape[1] == 1:  # Xavier's, uniform
        return math.sqrt(2 / (25 + 25 * weight.shape[0]))
    if name.endswith(("class_head.weight", "pixel_head.2.conv.weight", "classifier.2.weight")):
        return TRUNCATED * 0.01
    if name.endswith(("qkv.weight", "qkv.linear.weight", "cluster_update.value.conv.weight")):
        return TRUNCATED * weight.shape[1] ** -0.5
    return TRUNCATED * math.sqrt(2 / weight.shape[1])


def test_initial_constants_are_those_of_the_rules(fresh: KMaX) -> None:
    zero_scales = ("conv3.norm", "self_attention.project.norm", "cluster_update.project.norm", "ffn.1.norm")
    for name, parameter in fresh.named_parameters():
        if name.endswith(".bias"):
            assert not parameter.any(), name
        elif parameter.dim() == 1:
            scale = 1.0
            if name.endswith(tuple(f"{place}.weight" for place in zero_scales)):
                scale = 0.0
            elif name.endswith("mask_norm.weight"):
                scale = pytest.approx(0.1)
            assert parameter.unique().tolist() == [scale], name


def test_convnext_starts_with_small_layer_scales() -> None:
    torch.manual_seed(0)
    encoder = pixel_encoder(SIZES["kmax_convnext_tiny"].encoder, EncoderConfig(MODEL_FLAVOURS["tf"]))
    for name, parameter in encoder.named_parameters():
        if name.endswith("gamma"):
            assert parameter.unique().tolist() == [pytest.approx(1e-6)]
    weight = encoder.network.stages[3].blocks[0].mlp.fc1.weight
    assert weight.std().item() == pytest.approx(0.02, rel=3 / math.sqrt(2 * weight.numel()))


@pytest.mark.parametrize("name", PAPER)
def test_no_layer_uses_torchs_own_batch_norm(name: str) -> None:
    """Whose constants, moving variance and ranks would be others."""
    assert not any(isinstance(module, nn.BatchNorm2d) for module in on_meta(name).modules())
