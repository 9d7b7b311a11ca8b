"""Convolutions in the order of sums that a CPU likes: the results are torch's."""

from typing import Any

import pytest
import torch
from torch import nn

from kmax.model import convolution
from kmax.model.convolution import Convolution, convolve

MOSTLY_PADDING: list[tuple[dict[str, Any], tuple[int, int]]] = [
    ({"kernel_size": 3, "padding": 12, "dilation": 12}, (13, 13)),
    ({"kernel_size": 3, "padding": 18, "dilation": 18}, (13, 15)),
    ({"kernel_size": 3, "padding": (6, 12), "dilation": (6, 12)}, (9, 21)),
    ({"kernel_size": (5, 3), "padding": (8, 5), "dilation": (4, 5)}, (9, 9)),
]
MANY_CHANNELS: dict[str, Any] = {"in_channels": 130, "out_channels": 140, "kernel_size": 1}
WIDE_DEPTHWISE: list[dict[str, Any]] = [
    {"kernel_size": 5, "padding": 2},
    {"kernel_size": 7, "padding": 3},
    {"kernel_size": (3, 8), "padding": (1, 2)},
    {"kernel_size": 4},
]


def agree(like: nn.Conv2d, size: tuple[int, int]) -> None:
    """Result and gradients of our way and of torch's are the same to rounding, with channels last."""
    torch.manual_seed(0)
    like = like.double()
    x = torch.randn(2, like.in_channels, *size, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    leaves = [x, like.weight, like.bias]
    expected, found = nn.Conv2d.forward(like, x), convolve(x, like.weight, like.bias, like)
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)
    grad = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, leaves, grad), torch.autograd.grad(expected, leaves, grad), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def called(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """The calls of a function of the module, from now on."""
    calls, function = [], getattr(convolution, name)

    def counted(*arguments: Any) -> Any:
        calls.append(name)
        return function(*arguments)

    monkeypatch.setattr(convolution, name, counted)
    return calls


@pytest.mark.parametrize(("settings", "size"), MOSTLY_PADDING, ids=str)
def test_taps_that_see_only_padding_are_left_out(settings, size, monkeypatch):
    calls = called(monkeypatch, "_by_tap")
    agree(nn.Conv2d(8, 6, **settings), size)
    assert calls


def test_a_dilated_kernel_that_sees_mostly_pixels_is_torchs(monkeypatch):
    calls = called(monkeypatch, "_by_tap")
    agree(nn.Conv2d(8, 6, 3, padding=6, dilation=6), (41, 41))
    assert not calls


def test_gradients_of_1x1_kernels_of_many_channels(monkeypatch):
    calls = called(monkeypatch, "_product")
    agree(nn.Conv2d(**MANY_CHANNELS), (7, 9))
    assert calls


@pytest.mark.parametrize("settings", WIDE_DEPTHWISE, ids=str)
def test_gradients_of_wide_depthwise_kernels_come_in_columns(settings, monkeypatch):
    calls = called(monkeypatch, "_by_columns")
    agree(nn.Conv2d(16, 16, groups=16, **settings), (9, 12))
    assert calls


def test_strided_grouped_and_padded_convolutions_stay_torchs():
    agree(nn.Conv2d(130, 140, 1, stride=2), (7, 9))
    agree(nn.Conv2d(130, 140, 1, padding=1), (7, 9))
    agree(nn.Conv2d(260, 260, 1, groups=2), (7, 9))
    agree(nn.Conv2d(16, 16, 5, stride=2, groups=16), (9, 12))
    agree(nn.Conv2d(16, 16, 5, dilation=2, groups=16), (12, 12))
    agree(nn.Conv2d(16, 16, 5, padding="same", groups=16), (9, 12))
    agree(nn.Conv2d(16, 16, 9, padding=4, groups=16), (9, 1))


def test_only_wanted_gradients_are_made_and_autocast_is_heeded():
    layer = Convolution(**MANY_CHANNELS)
    layer(torch.randn(2, 130, 4, 4)).sum().backward()  # the input wants none
    assert layer.weight.grad is not None
    assert layer.bias.grad is not None
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(torch.randn(2, 130, 4, 4))
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert layer.weight.grad.isfinite().all()
