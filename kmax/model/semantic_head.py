"""The auxiliary semantic head: used in training, to teach the encoder classes early."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kmax.model.convolution import Convolution
from kmax.model.layers import ConvBN, init_truncated, resize
from kmax.model.sizes import SemanticSize

HEAD_STD = 0.01
DROPOUT = 0.1


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (DeepLabv3, arXiv 1706.05587, section 3.3)."""

    def __init__(self, in_channels: int, channels: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList([ConvBN(in_channels, channels, act=True)])
        self.branches.extend(ConvBN(in_channels, channels, 3, dilation=rate, act=True) for rate in rates)
        self.pool = ConvBN(in_channels, channels, act=True)
        self.project = ConvBN(channels * (len(rates) + 2), channels, act=True)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, h, w] -> [B, C, h, w]."""
        pooled = self.pool(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        parts = [*(branch(x) for branch in self.branches), pooled]
        return self.dropout(self.project(torch.cat(parts, dim=1)))  # type: ignore[no-any-return]


class LowLevelFuse(nn.Module):
    """Resize a coarse map to a finer feature and mix in that feature, projected to few channels."""

    def __init__(self, channels: int, low_level_in: int, low_level_out: int, align_even: bool) -> None:
        super().__init__()
        self.align_even = align_even
        self.project = ConvBN(low_level_in, low_level_out, act=True)
        mixed = channels + low_level_out
        self.fuse = nn.Sequential(
            ConvBN(mixed, mixed, 5, depthwise=True, act=True), ConvBN(mixed, channels, act=True)
        )

    def forward(self, x: Tensor, low_level: Tensor) -> Tensor:
        """x [B, C, h, w], low_level [B, C', H, W] -> [B, C, H, W]."""
        x = resize(x, (low_level.shape[2], low_level.shape[3]), self.align_even)
        return self.fuse(torch.cat([x, self.project(low_level)], dim=1))  # type: ignore[no-any-return]


class _Classifier(nn.Sequential):
    """Depthwise 5x5, 1x1, and the last layer with bias."""

    def __init__(self, in_channels: int, channels: int, outputs: int) -> None:
        last = Convolution(channels, outputs, 1)
        init_truncated(last.weight, HEAD_STD)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        super().__init__(
            ConvBN(in_channels, in_channels, 5, depthwise=True, act=True),
            ConvBN(in_channels, channels, act=True),
            last,
        )


class PyramidSemanticHead(nn.Module):
    """ASPP on stride 32, then the features of strides 8 and 4; K+1 outputs (void last) at stride 4.

    Args:
        in_channels: of the encoder's features of strides 32, 8 and 4.
        size: widths and dilations.
        num_classes: K, without void.
        align_even: see `Flavour.align_even_widths`.
    """

    def __init__(
        self, in_channels: tuple[int, int, int], size: SemanticSize, num_classes: int, align_even: bool
    ) -> None:
        super().__init__()
        os32, os8, os4 = in_channels
        self.aspp = ASPP(os32, size.channels, size.rates)
        self.fuse8 = LowLevelFuse(size.channels, os8, size.low_level_channels[0], align_even)
        self.fuse4 = LowLevelFuse(size.channels, os4, size.low_level_channels[1], align_even)
        self.classifier = _Classifier(size.channels, size.channels, num_classes + 1)

    def forward(self, os32: Tensor, os8: Tensor, os4: Tensor) -> Tensor:
        """Encoder features [B, C_s, h_s, w_s] of strides 32, 8 and 4 -> logits [B, K+1, h, w] at stride 4."""
        return self.classifier(self.fuse4(self.fuse8(self.aspp(os32), os8), os4))  # type: ignore[no-any-return]


class DirectSemanticHead(nn.Module):
    """A classifier on stride 32 alone; K outputs. The originals take it on Cityscapes."""

    def __init__(self, in_channels: int, size: SemanticSize, num_classes: int) -> None:
        super().__init__()
        self.classifier = _Classifier(in_channels, size.channels, num_classes)

    def forward(self, os32: Tensor, os8: Tensor, os4: Tensor) -> Tensor:
        """Encoder features of stride 32 (the finer ones are not read) -> logits [B, K, h, w] at stride 32."""
        return self.classifier(os32)  # type: ignore[no-any-return]
