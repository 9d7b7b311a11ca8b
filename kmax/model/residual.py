"""The residual block of the pixel decoder and of MaX-S's encoder."""

from __future__ import annotations

from timm.layers import DropPath
from torch import Tensor, nn

from kmax.config.model_sizes import StageSize
from kmax.model.activation import Activate
from kmax.model.axial import AxialAttention
from kmax.model.layers import GELU_LAYERS, ConvBN, LayerConfig

EXPANSION = 4


class ResidualBlock(nn.Module):
    """A residual block that activates its input and not its output.

    The middle is a 3x3 convolution, or axial attention at twice the width.

    Args:
        in_channels: channels of the input.
        stage: kind and width of the block; the output has four times the width.
        stride: of the 3x3 convolution or the attention, and of the shortcut.
        dilation: of the 3x3 convolution.
        drop_path: drop rate of the residual branch.
        layers: activation and norms.
    """

    def __init__(
        self,
        in_channels: int,
        stage: StageSize,
        *,
        stride: int = 1,
        dilation: int = 1,
        drop_path: float = 0.0,
        layers: LayerConfig = GELU_LAYERS,
    ) -> None:
        super().__init__()
        self.layers = layers
        out_channels = EXPANSION * stage.width
        axial = stage.axial
        middle_channels = 2 * stage.width if axial else stage.width
        changes = stride > 1 or in_channels != out_channels
        self.shortcut: nn.Module = nn.Identity()
        if changes:
            self.shortcut = ConvBN(in_channels, out_channels, stride=stride, layers=layers)
        self.conv1 = ConvBN(in_channels, middle_channels, act=True, layers=layers)
        self.middle: nn.Module
        if axial is not None:
            attention = AxialAttention(
                middle_channels, stage.width, middle_channels, axial.heads, axial.span, stride, layers
            )
            self.middle = nn.Sequential(attention, Activate(layers.activation))
        else:
            self.middle = ConvBN(
                middle_channels, middle_channels, 3, stride=stride, dilation=dilation, act=True, layers=layers
            )
        self.conv3 = ConvBN(middle_channels, out_channels, zero_norm=True, layers=layers)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, H, W] -> [B, 4 width, H / stride, W / stride], rounded up."""
        x = self.layers.activate(x)
        residual = self.conv3(self.middle(self.conv1(x)))
        return self.shortcut(x) + self.drop_path(residual)  # type: ignore[no-any-return]
