"""MaX-S, the encoder of MaX-DeepLab (arXiv 2012.00759): a ResNet with axial attention in its last stages.

It is Axial-ResNet-50 (arXiv 2003.07853) with a stem of three convolutions and, in kMaX-DeepLab, GELU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from kmax.config.model_sizes import AxialResNetSize
from kmax.model.activation import Activate
from kmax.model.layers import ConvBN, EncoderConfig
from kmax.model.residual import EXPANSION, ResidualBlock

AXIAL_STRIDE = 16


class AxialResNet(nn.Module):
    """The encoder; its features are not activated.

    Attributes:
        channels: of the features, finest first.
        finest_stride: of the first feature.
        activation: the activation that the features lack.

    Args:
        size: widths and numbers of blocks.
        config: everything else. Only axial blocks drop; the rate is proportional to the number of stages that
            the block's input has gone through.
    """

    def __init__(self, size: AxialResNetSize, config: EncoderConfig) -> None:
        super().__init__()
        layers, output_stride = config.layers, config.output_stride
        first, second, third = size.stem
        self.stem = nn.Sequential(
            ConvBN(3, first, 3, stride=2, act=True, layers=layers),
            ConvBN(first, second, 3, act=True, layers=layers),
            ConvBN(second, third, 3, layers=layers),
        )
        self.stages = nn.ModuleList()
        channels, input_stride = third, 2  # the stride before a block, were there no dilation
        for index, stage in enumerate(size.stages):
            blocks = nn.Sequential()
            for block in range(stage.blocks):
                axial = stage.axial if input_stride >= AXIAL_STRIDE else None
                stages_passed = index + 1 if block else index
                rate = config.drop_path * stages_passed / len(size.stages) if axial else 0.0
                stride = 1 if block else 2
                blocks.append(
                    ResidualBlock(
                        channels,
                        replace(stage, axial=axial),
                        stride=stride if input_stride < output_stride else 1,
                        dilation=max(1, input_stride // output_stride),
                        drop_path=rate,
                        layers=layers,
                    )
                )
                channels, input_stride = EXPANSION * stage.width, input_stride * stride
            self.stages.append(blocks)
        self.finest_stride = 2
        self.channels: Sequence[int] = (third, *(EXPANSION * stage.width for stage in size.stages))
        self.activation: nn.Module = Activate(layers.activation)

    def forward(self, images: Tensor) -> list[Tensor]:
        """images [B, 3, H, W] -> features [B, C_s, h_s, w_s], finest first."""
        features = [self.stem(images)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features
