"""Small layers that all parts of the network share, with the initial values of the originals."""

from __future__ import annotations

import math

import torch
from timm.layers import trunc_normal_tf_
from torch import Tensor, nn
from torch.nn import functional as F

from kmax.model.norm import BatchNorm


def init_truncated(weight: Tensor, std: float | None = None) -> None:
    """Truncated normal, cut at two standard deviations and not rescaled.

    The default `std` is sqrt(2 / input channels). The kernel's area is left out on purpose, as in the
    originals: a 3x3 kernel starts three times larger than by He's rule.
    """
    trunc_normal_tf_(weight, std=math.sqrt(2.0 / weight.shape[1]) if std is None else std)


class ConvBN(nn.Module):
    """Convolution that keeps the size, or halves it at stride 2; batch norm; and GELU on request.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: side of the kernel.
        stride: of the kernel.
        dilation: of the kernel.
        depthwise: one filter per channel, initialised by Xavier's uniform rule.
        bias: add a bias to the convolution, starting at 0.
        act: end with an exact GELU.
        std: of the initial weights; None: sqrt(2 / in_channels).
        zero_norm: the scale of the norm starts at 0, so that a residual branch starts as nothing.
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
        self.norm = BatchNorm(out_channels)
        self.act = act
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
        return self.norm.after(self.conv, x, self.act)


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
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels, bias=False)
        self.norm = BatchNorm(out_channels)
        self.act = act
        init_truncated(self.linear.weight, std)
        if zero_norm:
            nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, C_in] -> [B, N, C_out]."""
        x = norm_tokens(self.norm, self.linear(x))
        return F.gelu(x) if self.act else x


def norm_tokens(norm: BatchNorm, x: Tensor) -> Tensor:
    """Batch norm over the last dimension of x [B, N, C]."""
    return norm(x.flatten(0, 1)).view_as(x)  # type: ignore[no-any-return]


def resize(x: Tensor, size: tuple[int, int], align_even: bool = True) -> Tensor:
    """Bilinear resize of [B, C, h, w] to `size`, corners aligned, as odd sizes want.

    A map of even width has its corners aligned too where `align_even`; see `Flavour.align_even_widths`.
    """
    if (x.shape[2], x.shape[3]) == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align_even or x.shape[3] % 2 == 1)


def l2_normalize(x: Tensor, clamp_squared_norm: bool) -> Tensor:
    """Scale the channel vectors of x [B, C, ...] to length 1; see `Flavour.clamp_squared_norm`."""
    if clamp_squared_norm:
        return x * torch.rsqrt(x.square().sum(1, keepdim=True).clamp(min=1e-12))
    return F.normalize(x, dim=1, eps=1e-12)
