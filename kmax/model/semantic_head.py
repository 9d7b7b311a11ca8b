"""The auxiliary semantic head, used in training, so that the encoder learns classes early."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kmax.config.model_sizes import SemanticSize
from kmax.model.convolution import Convolution
from kmax.model.layers import GELU_LAYERS, ConvBN, LayerConfig, init_truncated, resize

HEAD_STD = 0.01
DROPOUT = 0.1


@dataclass(frozen=True)
class SemanticHeadConfig:
    """The configuration of a semantic head, except its input channels.

    Attributes:
        size: widths and dilations.
        num_classes: K, without void.
        align_even: see `ModelFlavour.align_even_widths`.
        layers: activation and norms.
    """

    size: SemanticSize
    num_classes: int
    align_even: bool
    layers: LayerConfig = GELU_LAYERS


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (DeepLabv3, arXiv 1706.05587, section 3.3)."""

    def __init__(self, in_channels: int, config: SemanticHeadConfig) -> None:
        super().__init__()
        channels, rates, layers = config.size.channels, config.size.rates, config.layers
        self.branches = nn.ModuleList([ConvBN(in_channels, channels, act=True, layers=layers)])
        self.branches.extend(
            ConvBN(in_channels, channels, 3, dilation=rate, act=True, layers=layers) for rate in rates
        )
        self.pool = ConvBN(in_channels, channels, act=True, layers=layers)
        self.project = ConvBN(channels * (len(rates) + 2), channels, act=True, layers=layers)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, h, w] -> [B, C, h, w]."""
        pooled = self.pool(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        parts = [*(branch(x) for branch in self.branches), pooled]
        return self.dropout(self.project(torch.cat(parts, dim=1)))  # type: ignore[no-any-return]


class LowLevelFuse(nn.Module):
    """Resize a coarse map to a finer feature and mix in that feature, projected to few channels."""

    def __init__(self, low_level_in: int, low_level_out: int, config: SemanticHeadConfig) -> None:
        super().__init__()
        channels, layers = config.size.channels, config.layers
        self.align_even = config.align_even
        self.project = ConvBN(low_level_in, low_level_out, act=True, layers=layers)
        mixed = channels + low_level_out
        self.fuse = nn.Sequential(
            ConvBN(mixed, mixed, 5, depthwise=True, act=True, layers=layers),
            ConvBN(mixed, channels, act=True, layers=layers),
        )

    def forward(self, x: Tensor, low_level: Tensor) -> Tensor:
        """x [B, C, h, w], low_level [B, C', H, W] -> [B, C, H, W]."""
        x = resize(x, (low_level.shape[2], low_level.shape[3]), self.align_even)
        return self.fuse(torch.cat([x, self.project(low_level)], dim=1))  # type: ignore[no-any-return]


class _Classifier(nn.Sequential):
    """Depthwise 5x5, 1x1, and the last layer with bias."""

    def __init__(self, in_channels: int, outputs: int, config: SemanticHeadConfig) -> None:
        channels, layers = config.size.channels, config.layers
        last = Convolution(channels, outputs, 1)
        init_truncated(last.weight, HEAD_STD)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        super().__init__(
            ConvBN(in_channels, in_channels, 5, depthwise=True, act=True, layers=layers),
            ConvBN(in_channels, channels, act=True, layers=layers),
            last,
        )


class PyramidSemanticHead(nn.Module):
    """ASPP on stride 32, then the features of strides 8 and 4; K+1 outputs (void last) at stride 4.

    Args:
        in_channels: of the encoder's features of strides 32, 8 and 4.
        config: everything else.
    """

    def __init__(self, in_channels: tuple[int, int, int], config: SemanticHeadConfig) -> None:
        super().__init__()
        (os32, os8, os4), size = in_channels, config.size
        self.aspp = ASPP(os32, config)
        self.fuse8 = LowLevelFuse(os8, size.low_level_channels[0], config)
        self.fuse4 = LowLevelFuse(os4, size.low_level_channels[1], config)
        self.classifier = _Classifier(size.channels, config.num_classes + 1, config)

    def forward(self, os32: Tensor, os8: Tensor, os4: Tensor) -> Tensor:
        """Encoder features [B, C_s, h_s, w_s] of strides 32, 8 and 4 -> logits [B, K+1, h, w] at stride 4."""
        return self.classifier(self.fuse4(self.fuse8(self.aspp(os32), os8), os4))  # type: ignore[no-any-return]


class DirectSemanticHead(nn.Module):
    """A classifier on stride 32 only; K outputs. The originals use it on Cityscapes."""

    def __init__(self, in_channels: int, config: SemanticHeadConfig) -> None:
        super().__init__()
        self.classifier = _Classifier(in_channels, config.num_classes, config)

    def forward(self, os32: Tensor, os8: Tensor, os4: Tensor) -> Tensor:
        """Encoder features of stride 32 (the finer ones are not read) -> logits [B, K, h, w] at stride 32."""
        return self.classifier(os32)  # type: ignore[no-any-return]
