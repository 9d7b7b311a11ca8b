"""The pixel decoder: from stride 32 up to stride 4, with axial attention where maps are small.

Features that pass between modules are not activated; each consumer activates its inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from kmax.config.model_sizes import StageSize
from kmax.model.activation import Activate
from kmax.model.layers import GELU_LAYERS, ConvBN, LayerConfig, resize
from kmax.model.norm import ChannelLayerNorm
from kmax.model.residual import EXPANSION, ResidualBlock


@dataclass(frozen=True)
class PixelDecoderConfig:
    """The configuration of a pixel decoder, except its input channels.

    Attributes:
        stages: kinds, widths and numbers of blocks, coarsest first.
        dilation: of the 3x3 convolutions, see `ModelFlavour.bottleneck_dilation`.
        align_even: see `ModelFlavour.align_even_widths`.
        layers: activation and norms.
    """

    stages: tuple[StageSize, ...]
    dilation: int
    align_even: bool
    layers: LayerConfig = GELU_LAYERS


class ResizedFuse(nn.Module):
    """Sum of a coarse map, resized, and a fine one, both projected to the output's channels.

    A map that already has that number of channels is neither activated nor projected.
    """

    def __init__(
        self,
        low_channels: int,
        high_channels: int,
        out_channels: int,
        align_even: bool,
        layers: LayerConfig = GELU_LAYERS,
    ) -> None:
        super().__init__()
        self.align_even = align_even
        self.low = self._projection(low_channels, out_channels, layers)
        self.high = self._projection(high_channels, out_channels, layers)

    @staticmethod
    def _projection(in_channels: int, out_channels: int, layers: LayerConfig) -> nn.Module:
        if in_channels == out_channels:
            return nn.Identity()
        return nn.Sequential(Activate(layers.activation), ConvBN(in_channels, out_channels, layers=layers))

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """low [B, C, h, w], high [B, C', H, W] -> [B, C'', H, W]."""
        high = self.high(high)
        return resize(self.low(low), (high.shape[2], high.shape[3]), self.align_even) + high


class PixelDecoder(nn.Module):
    """Stages of residual blocks from the coarsest feature to the finest, each fused with the next feature.

    Args:
        in_channels: channels of the encoder's features, coarsest first, one per stage.
        config: everything else.
    """

    def __init__(self, in_channels: Sequence[int], config: PixelDecoderConfig) -> None:
        super().__init__()
        if len(in_channels) != len(config.stages):
            raise ValueError(
                f"{len(config.stages)} stages need the same number of features, not {len(in_channels)}"
            )
        self.norms = nn.ModuleList(ChannelLayerNorm(channels) for channels in in_channels)
        self.fuses = nn.ModuleList()
        self.stages = nn.ModuleList()
        self.out_channels: list[int] = []
        channels = in_channels[0]
        for index, stage in enumerate(config.stages):
            if index > 0:
                fuse = ResizedFuse(
                    channels, in_channels[index], stage.width, config.align_even, config.layers
                )
                self.fuses.append(fuse)
                channels = stage.width
            blocks = []
            for _ in range(stage.blocks):
                block = ResidualBlock(channels, stage, dilation=config.dilation, layers=config.layers)
                blocks.append(block)
                channels = EXPANSION * stage.width
            self.stages.append(nn.Sequential(*blocks))
            self.out_channels.append(channels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The outputs of all stages, not activated, from encoder features [B, C, H, W], coarsest first."""
        outputs: list[Tensor] = []
        for index, (feature, norm, stage) in enumerate(zip(features, self.norms, self.stages, strict=True)):
            x = norm(feature)
            if index > 0:
                x = self.fuses[index - 1](outputs[-1], x)
            outputs.append(stage(x))
        return outputs
