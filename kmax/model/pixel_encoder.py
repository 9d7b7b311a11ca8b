"""The pixel encoders: networks of timm with our batch norm, and MaX-S.

All return their features at strides 2 (or 4, by network), 4, 8, 16 and 32, but none coarser than their output
stride.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
from timm.models.convnext import ConvNeXt
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn
from torch.nn import functional as F

from kmax.config.model_sizes import AxialResNetSize, ConvNeXtSize, EncoderSize, ResNetSize, TimmSize
from kmax.errors import InputError
from kmax.model.axial_resnet import AxialResNet
from kmax.model.layers import EncoderConfig, LayerConfig


class PlainEncoder(nn.Module):
    """An unmodified timm network.

    Attributes:
        channels: of the features, finest first.
        finest_stride: of the first feature, 2 or 4.
        activation: the activation that the features lack.

    Args:
        size: which network.
        config: everything else.
    """

    def __init__(self, size: TimmSize, config: EncoderConfig) -> None:
        super().__init__()
        self.network: Any = _timm_network(size, config, features_only=True)
        self.channels: Sequence[int] = self.network.feature_info.channels()
        self.finest_stride: int = self.network.feature_info.reduction()[0]
        self.activation: nn.Module = nn.Identity()

    def forward(self, images: Tensor) -> list[Tensor]:
        """images [B, 3, H, W] -> features [B, C_s, h_s, w_s], finest first."""
        return list(self.network(images))


class ResNetEncoder(nn.Module):
    """ResNet (arXiv 1512.03385) with the stem, strides and features of either original.

    Attributes, Args: as of `PlainEncoder`.
    """

    def __init__(self, size: ResNetSize, config: EncoderConfig) -> None:
        super().__init__()
        self.network: Any = _timm_network(size, config, num_classes=0)
        if not _has_plain_bottlenecks(self.network):
            raise InputError(
                f"ResNetSize('{size.timm_name}'): not a ResNet of plain bottleneck blocks, such as resnet50; "
                "TimmSize takes any network of timm"
            )
        self.max_pool = max_pool = config.flavour.resnet_max_pool
        activated = config.flavour.resnet_activated_features
        layers: Any = self.layers()
        if not max_pool:
            for convolution in (layers[0][0].conv2, layers[0][0].downsample[0]):
                convolution.stride = (2, 2)
        if not activated:
            for layer in layers:
                layer[-1].act3 = nn.Identity()
        self.channels: Sequence[int] = (
            self.network.conv1.out_channels,
            *(layer[-1].conv3.out_channels for layer in layers),
        )
        self.finest_stride = 4 if max_pool else 2
        self.activation: nn.Module = nn.Identity() if activated else nn.ReLU()

    def layers(self) -> list[nn.Sequential]:
        """The stages."""
        return [getattr(self.network, f"layer{i}") for i in (1, 2, 3, 4)]

    def forward(self, images: Tensor) -> list[Tensor]:
        """images [B, 3, H, W] -> features [B, C_s, h_s, w_s], finest first."""
        x = self.network.bn1.after(self.network.conv1, images)
        if self.max_pool:
            x = self.network.maxpool(self.network.act1(x))
        features = [x]
        for layer in self.layers():
            x = self.activation(features[-1])
            for block in layer:
                x = _bottleneck(block, x)
            features.append(x)
        return features


def _has_plain_bottlenecks(network: Any) -> bool:
    """Whether `_bottleneck` computes all blocks of a network of timm."""
    return (
        isinstance(network, ResNet)
        and isinstance(network.conv1, nn.Conv2d)
        and all(
            isinstance(block, Bottleneck)
            and block.se is None
            and isinstance(block.aa, nn.Identity | None)
            and (block.downsample is None or isinstance(block.downsample[0], nn.Conv2d))
            for block in network.modules()
            if isinstance(block, Bottleneck | BasicBlock)
        )
    )


def _bottleneck(block: Any, x: Tensor) -> Tensor:
    """A block of timm's ResNet, with each norm left to the convolution before it."""
    residual = block.act1(block.bn1.after(block.conv1, x))
    residual = block.act2(block.bn2.after(block.conv2, residual))
    residual = block.bn3.after(block.conv3, residual)
    if block.drop_path is not None:
        residual = block.drop_path(residual)
    if block.downsample is not None:
        convolution, norm = block.downsample
        x = norm.after(convolution, x)
    residual += x
    return block.act3(residual)  # type: ignore[no-any-return]


class ConvNeXtEncoder(nn.Module):
    """ConvNeXt (arXiv 2201.03545) on odd sizes: maps are padded so that sides are rounded up.

    The padding before the strided 2x2 convolutions comes before their layer norm, which turns the border into
    the norm's bias. The first feature is the stem, of stride 4.

    Attributes, Args: as of `PlainEncoder`.
    """

    def __init__(self, size: ConvNeXtSize, config: EncoderConfig) -> None:
        super().__init__()
        self.network: Any = _timm_network(size, config, num_classes=0)
        if not isinstance(self.network, ConvNeXt):
            raise InputError(f"ConvNeXtSize('{size.timm_name}'): not a ConvNeXt; TimmSize takes any network")
        self.network.head = nn.Identity()
        self.strides = [_stride_of(stage) for stage in self.network.stages]
        for stage, stride in zip(self.network.stages, self.strides, strict=True):
            if stride > 1:
                stage.downsample[1] = _PatchConv.like(stage.downsample[1])
        stages = [info["num_chs"] for info in self.network.feature_info]
        self.channels: Sequence[int] = (stages[0], *stages)
        self.finest_stride = 4
        self.activation: nn.Module = nn.GELU()

    def forward(self, images: Tensor) -> list[Tensor]:
        """images [B, 3, H, W] -> features [B, C_s, h_s, w_s], finest first."""
        features = [self.network.stem(F.pad(images, (1, 2, 1, 2)))]
        for stage, stride in zip(self.network.stages, self.strides, strict=True):
            x = features[-1]
            features.append(stage(F.pad(x, (0, 1, 0, 1)) if stride > 1 else x))
        return features


def _stride_of(stage: Any) -> int:
    """The stride of a stage of timm's ConvNeXt."""
    return 1 if isinstance(stage.downsample, nn.Identity) else int(stage.downsample[1].stride[0])


class _PatchConv(nn.Conv2d):
    """A convolution whose stride is its kernel's side, as a matrix product over patches.

    Those of ConvNeXt add up thousands of products per value. oneDNN's kernels for channels-last tensors do it
    one after the other, and have three to four times the rounding error of a matrix product.
    """

    @classmethod
    def like(cls, convolution: nn.Conv2d) -> _PatchConv:
        """The same convolution, with the same parameters."""
        side = convolution.kernel_size[0]
        made = cls(convolution.in_channels, convolution.out_channels, side, stride=side, device="meta")
        made.weight, made.bias = convolution.weight, convolution.bias
        return made

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H / side, W / side], rounded down."""
        side = self.kernel_size[0]
        batch, channels, height, width = x.shape
        rows, columns = height // side, width // side
        x = x[:, :, : rows * side, : columns * side].permute(0, 2, 3, 1)
        patches = x.reshape(batch, rows, side, columns, side, channels).transpose(2, 3).flatten(3)
        return F.linear(patches, self.weight.permute(0, 2, 3, 1).flatten(1), self.bias).permute(0, 3, 1, 2)


PixelEncoder = PlainEncoder | ResNetEncoder | ConvNeXtEncoder | AxialResNet


def pixel_encoder(size: EncoderSize, config: EncoderConfig) -> PixelEncoder:
    """The encoder of that size, as the original computes it; `build_model` knows which originals have it."""
    match size:
        case AxialResNetSize():
            return AxialResNet(size, config)
        case ConvNeXtSize():
            return ConvNeXtEncoder(size, config)
        case ResNetSize():
            return ResNetEncoder(size, config)
        case _:
            return PlainEncoder(size, config)


def _timm_network(size: TimmSize, config: EncoderConfig, **options: bool | int) -> Any:
    """The network with initial values, and our batch norm.

    Raises:
        InputError: timm has no such network.
    """
    if not timm.is_model(size.timm_name):
        raise InputError(f"{type(size).__name__}('{size.timm_name}'): timm has no network of this name")
    arguments: dict[str, Any] = dict(size.options) | options
    if config.drop_path > 0.0:
        arguments["drop_path_rate"] = config.drop_path
    if config.output_stride != 32:
        arguments["output_stride"] = config.output_stride
    network = timm.create_model(size.timm_name, pretrained=False, **arguments)
    _replace_batch_norms(network, config.layers)
    return network


def _replace_batch_norms(network: nn.Module, layers: LayerConfig) -> None:
    """Replace torch's batch norm with ours, keeping scale and bias."""
    for name, child in list(network.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            norm = layers.norm(child.num_features)
            norm.weight.data.copy_(child.weight.data)
            norm.bias.data.copy_(child.bias.data)
            setattr(network, name, norm)
        else:
            _replace_batch_norms(child, layers)
