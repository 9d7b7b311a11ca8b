"""bfloat16, compilation and layouts change the speed of the network, not what it computes."""

import pytest
import torch
from tiny_model import tiny
from torch import Tensor, nn

from kmax import config
from kmax.data.batch import Batch
from kmax.losses import Criterion
from kmax.model.kmax import KMaX
from kmax.model.norm import BatchNorm
from kmax.model.output import Output

LOSSES = config.Losses(
    class_weight=3.0,
    dice_weight=3.0,
    mask_id_weight=0.3,
    instance_discrimination_weight=1.0,
    semantic_weight=1.0,
    sample_k=10**6,
    sample_temperature=1.5,
)


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 9, 9, generator=generator) * 2 - 1
    return nn.functional.interpolate(coarse, (97, 129), mode="bilinear", align_corners=True)


@pytest.fixture(params=["tf", "torch"])
def moved(request: pytest.FixtureRequest, images: Tensor) -> KMaX:
    """A network whose norms have moved away from doing nothing."""
    torch.manual_seed(0)
    model = tiny(flavour=request.param).train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
            elif name.endswith(("mask_head.linear.weight", "class_head.weight")):
                parameter.mul_(5)
        for _ in range(20):
            model(images)
    return model.eval()


def same(ours: Output, expected: Output, *, rms: float, flips: float) -> None:
    """Agreement of all outputs by their rms, and of the assignments of pixels to clusters."""
    pairs = [(ours.class_logits, expected.class_logits), (ours.mask_logits, expected.mask_logits)]
    pairs.append((ours.pixel_features, expected.pixel_features))
    for layer, wanted in zip(ours.auxiliary, expected.auxiliary, strict=True):
        pairs += [(layer.class_logits, wanted.class_logits), (layer.mask_logits, wanted.mask_logits)]
        assert (layer.assignment != wanted.assignment).float().mean() <= flips
    for value, wanted_value in pairs:
        assert value.shape == wanted_value.shape
        deviation = (value.float() - wanted_value).square().mean().sqrt() / wanted_value.std()
        assert deviation <= rms


def test_norms_folded_into_convolutions_compute_the_same(
    moved: KMaX, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.no_grad():
        folded = moved(images)
        monkeypatch.setattr(
            BatchNorm, "after", lambda self, convolution, x, *gelu: self(convolution(x), *gelu)
        )
        apart = moved(images)
    same(folded, apart, rms=1e-5, flips=1e-3)


def test_evaluation_with_and_without_gradients_agrees(moved: KMaX, images: Tensor) -> None:
    with_gradients = moved(images)
    with torch.no_grad():
        without = moved(images)
    same(without, with_gradients, rms=1e-6, flips=0)


def test_weights_and_images_of_any_layout(moved: KMaX, images: Tensor) -> None:
    with torch.no_grad():
        expected = moved(images)
        last = moved(images.contiguous(memory_format=torch.channels_last))
        first = moved.to(memory_format=torch.contiguous_format)(images)
    same(last, expected, rms=1e-6, flips=0)
    same(first, expected, rms=1e-5, flips=1e-3)


def test_bfloat16_is_near(moved: KMaX, images: Tensor) -> None:
    with torch.no_grad():
        expected = moved(images)
        with torch.autocast("cpu", torch.bfloat16):
            near = moved(images)
    same(near, expected, rms=0.1, flips=0.1)


def test_whole_network_is_captured_for_compilation(moved: KMaX, images: Tensor) -> None:
    with torch.no_grad():
        expected = moved(images)
        captured = torch.compile(moved, backend="aot_eager", fullgraph=True)(images)
    same(captured, expected, rms=1e-5, flips=1e-3)


@pytest.mark.parametrize("moved", ["tf"], indirect=True)
def test_compiled_parts_compute_the_same(moved: KMaX, images: Tensor) -> None:
    """One part of each kind: to compile the whole takes minutes. Needs a C++ compiler."""
    with torch.no_grad():
        expected = moved(images)
        moved.pixel_decoder.stages[0].compile()
        moved.transformer_decoder.layers[0].compile()
        compiled = moved(images)
    same(compiled, expected, rms=1e-5, flips=1e-3)


def a_batch(images: Tensor) -> Batch:
    segments = torch.full((2, 97, 129), -1)
    segments[:, 8:40, 8:60] = 0
    segments[:, 44:90, 30:120] = 1
    classes = [torch.tensor([1, 5]), torch.tensor([2, 7])]
    semantic = torch.stack(
        [torch.cat([c, torch.tensor([-1])])[s] for c, s in zip(classes, segments, strict=True)]
    )
    sizes = [(97, 129)] * 2
    return Batch(images, segments, semantic, classes, [0, 1], sizes, sizes)


@pytest.mark.parametrize("flavour", ["tf", "torch"])
def test_training_step_in_bfloat16_is_near(flavour: str, images: Tensor) -> None:
    torch.manual_seed(0)
    model = tiny(flavour=flavour).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    criterion, batch = Criterion(LOSSES, 8, flavour), a_batch(images)

    def step(enabled: bool) -> tuple[dict[str, float], Tensor]:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = model(images)
        losses = criterion(output, batch)
        torch.stack(list(losses.values())).sum().backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        return {name: loss.item() for name, loss in losses.items()}, gradient

    expected, wanted = step(False)
    losses, gradient = step(True)
    assert gradient.dtype == torch.float32
    assert torch.isfinite(gradient).all()
    assert losses == pytest.approx(expected, rel=0.1, abs=0.05)
    assert nn.functional.cosine_similarity(gradient, wanted, dim=0) > 0.9
