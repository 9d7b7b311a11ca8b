"""Small layers that all parts of the network share, with the initial values of the originals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from timm.layers import trunc_normal_tf_
from torch import Tensor, nn
from torch.nn import functional as F

from kmax.model.activation import Activation, activate
from kmax.model.model_flavour import ModelFlavour
from kmax.model.norm import EPSILON, BatchNorm


@dataclass(frozen=True)
class LayerConfig:
    """Settings shared by all convolutions, norms and activations of a network.

    Attributes:
        activation: of those layers that have one.
        epsilon: of batch norm.
        biased_moving_variance: of batch norm, see `ModelFlavour`.
    """

    activation: Activation = "gelu"
    epsilon: float = EPSILON
    biased_moving_variance: bool = False

    def norm(self, channels: int) -> BatchNorm:
        """A batch norm."""
        return BatchNorm(channels, self.biased_moving_variance, self.epsilon)

    def activate(self, x: Tensor) -> Tensor:
        """The activation of x."""
        return activate(x, self.activation)


GELU_LAYERS = LayerConfig()


@dataclass(frozen=True)
class EncoderConfig:
    """Settings of a pixel encoder of any size.

    Attributes:
        flavour: the original that a ResNet's stem, strides and features follow.
        drop_path: largest drop rate of the residual branches (stochastic depth).
        output_stride: of the last feature, 16 or 32. At 16 the last stage does not stride. Its convolutions
            are dilated instead, from the second block on, as in timm and in deeplab2.
        layers: epsilon of all norms; activation of MaX-S (networks of timm have their own).
    """

    flavour: ModelFlavour
    drop_path: float = 0.0
    output_stride: int = 32
    layers: LayerConfig = GELU_LAYERS


def init_truncated(weight: Tensor, std: float | None = None) -> None:
    """Truncated normal, cut at two standard deviations and not rescaled.

    The default `std` is sqrt(2 / input channels). The kernel's area is omitted on purpose, as in the
    originals: a 3x3 kernel starts three times larger than by He's rule.
    """
    trunc_normal_tf_(weight, std=math.sqrt(2.0 / weight.shape[1]) if std is None else std)


class ConvBN(nn.Module):
    """Convolution that keeps the size, or halves it at stride 2; batch norm; and activation on request.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: side of the kernel.
        stride: of the kernel.
        dilation: of the kernel.
        depthwise: one filter per channel, initialised by Xavier's uniform rule.
        bias: add a bias to the convolution, starting at 0.
        act: end with the activation.
        std: of the initial weights; None: sqrt(2 / in_channels).
        zero_norm: the scale of the norm starts at 0, so that a residual branch starts at zero.
        layers: the activation, and the constants of the norm.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        depthwise: bool = False,
        bias: bool = False,
        act: bool = False,
        std: float | None = None,
        zero_norm: bool = False,
        layers: LayerConfig = GELU_LAYERS,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            groups=in_channels if depthwise else 1,
            bias=bias,
        )
        self.norm = layers.norm(out_channels)
        self.activation = layers.activation if act else None
        if depthwise:
            nn.init.xavier_uniform_(self.conv.weight)
        else:
            init_truncated(self.conv.weight, std)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)
        if zero_norm:
            nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, H, W] -> [B, C_out, H, W]."""
        return self.norm.after(self.conv, x, self.activation)


class LinearBN(nn.Module):
    """The same as `ConvBN` with kernel 1, for cluster centres [B, N, C]."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        act: bool = False,
        std: float | None = None,
        zero_norm: bool = False,
        layers: LayerConfig = GELU_LAYERS,
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels, bias=False)
        self.norm = layers.norm(out_channels)
        self.activation = layers.activation if act else None
        init_truncated(self.linear.weight, std)
        if zero_norm:
            nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, C_in] -> [B, N, C_out]."""
        x = norm_tokens(self.norm, self.linear(x))
        return activate(x, self.activation)


def norm_tokens(norm: BatchNorm, x: Tensor) -> Tensor:
    """Batch norm over the last dimension of x [B, N, C]."""
    return norm(x.flatten(0, 1)).view_as(x)  # type: ignore[no-any-return]


def resize(x: Tensor, size: tuple[int, int], align_even: bool = True) -> Tensor:
    """Bilinear resize of [B, C, h, w] to `size`, corners aligned, as suits odd sizes.

    A map of even width has its corners aligned too where `align_even`; see `ModelFlavour.align_even_widths`.
    """
    if (x.shape[2], x.shape[3]) == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align_even or x.shape[3] % 2 == 1)


def l2_normalize(x: Tensor, clamp_squared_norm: bool) -> Tensor:
    """Scale the channel vectors of x [B, C, ...] to length 1; see `ModelFlavour.clamp_squared_norm`."""
    if clamp_squared_norm:
        return x * torch.rsqrt(x.square().sum(1, keepdim=True).clamp(min=1e-12))
    return F.normalize(x, dim=1, eps=1e-12)
