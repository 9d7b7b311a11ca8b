"""The sizes of the models, by name: they differ in numbers only.

To add a model, add an entry to `SIZES`; no other place lists models.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TimmSize:
    """A timm network as pixel encoder, unmodified; its features are activated.

    Attributes:
        timm_name: name of the network in timm.
        options: further arguments of timm's constructor.
    """

    timm_name: str
    options: tuple[tuple[str, bool | float | str | tuple[int, ...]], ...] = ()


@dataclass(frozen=True)
class ResNetSize(TimmSize):
    """A ResNet of bottleneck blocks, with stem and strides of `ModelFlavour`."""


@dataclass(frozen=True)
class ConvNeXtSize(TimmSize):
    """A ConvNeXt, padded as the originals do."""


@dataclass(frozen=True)
class AxialSize:
    """Heads of axial attention, and the longest axis that its position tables allow."""

    heads: int
    span: int


@dataclass(frozen=True)
class StageSize:
    """A stage of residual blocks; its output has four times `width` channels.

    Its blocks are axial attention, or bottlenecks where `axial` is None.
    """

    width: int
    blocks: int
    axial: AxialSize | None


@dataclass(frozen=True)
class AxialResNetSize:
    """MaX-S: three convolutions, then stages that halve the map; attention where maps are small.

    Attributes:
        stem: output channels of the convolutions.
        stages: those after the stem. In an axial one, blocks that read a map of stride 16 or more are axial,
            and a first block that reads a finer one is a bottleneck.
    """

    stem: tuple[int, int, int]
    stages: tuple[StageSize, ...]


EncoderSize = TimmSize | AxialResNetSize


@dataclass(frozen=True)
class TransformerSize:
    """The k-means transformer decoder.

    Attributes:
        channels: of cluster centres.
        bottleneck_channels: of pixels and centres inside a layer.
        head_channels: inside the pixel heads.
        key_channels: of the self-attention, over all heads; values have `bottleneck_channels`.
        heads: of the self-attention.
        ffn_channels: hidden channels of the feed-forward network.
        embedding_channels: of the space where pixels and cluster centres are compared.
        layers: number of layers at strides 32, 16 and 8.
        mask_norm_scale: first scale of the batch norm on mask logits. The originals start from 0.1, and need
            thousands of steps until masks pass the thresholds.
    """

    channels: int
    bottleneck_channels: int
    head_channels: int
    key_channels: int
    heads: int
    ffn_channels: int
    embedding_channels: int
    layers: tuple[int, int, int]
    mask_norm_scale: float


@dataclass(frozen=True)
class SemanticSize:
    """The auxiliary semantic head.

    Attributes:
        channels: throughout.
        low_level_channels: of the projected features of stride 8 and stride 4.
        rates: dilations of the pyramid.
    """

    channels: int
    low_level_channels: tuple[int, int]
    rates: tuple[int, ...]


@dataclass(frozen=True)
class ModelSize:
    """A complete model; the stages of the pixel decoder from the coarsest on."""

    encoder: EncoderSize
    pixel_decoder: tuple[StageSize, ...]
    transformer: TransformerSize
    semantic: SemanticSize


AXIAL = AxialSize(heads=8, span=255)


def _paper(encoder: EncoderSize) -> ModelSize:
    """A size of the paper: all have the same decoders and heads."""
    return ModelSize(
        encoder=encoder,
        pixel_decoder=(
            StageSize(width=512, blocks=1, axial=AXIAL),
            StageSize(width=256, blocks=5, axial=AXIAL),
            StageSize(width=128, blocks=1, axial=None),
            StageSize(width=64, blocks=1, axial=None),
            StageSize(width=32, blocks=1, axial=None),
        ),
        transformer=TransformerSize(
            channels=256,
            bottleneck_channels=256,
            head_channels=256,
            key_channels=128,
            heads=8,
            ffn_channels=2048,
            embedding_channels=128,
            layers=(2, 2, 2),
            mask_norm_scale=0.1,
        ),
        semantic=SemanticSize(channels=256, low_level_channels=(64, 32), rates=(6, 12, 18)),
    )


SIZES = {
    "kmax_resnet50": _paper(ResNetSize("resnet50", options=(("zero_init_last", False),))),
    "kmax_max_s": _paper(
        AxialResNetSize(
            stem=(64, 64, 128),
            stages=(
                StageSize(width=64, blocks=3, axial=None),
                StageSize(width=128, blocks=4, axial=None),
                StageSize(width=256, blocks=6, axial=AXIAL),
                StageSize(width=512, blocks=3, axial=AXIAL),
            ),
        )
    ),
    "kmax_convnext_tiny": _paper(ConvNeXtSize("convnext_tiny")),
    "kmax_convnext_small": _paper(ConvNeXtSize("convnext_small")),
    "kmax_convnext_base": _paper(ConvNeXtSize("convnext_base")),
    "kmax_convnext_large": _paper(ConvNeXtSize("convnext_large")),
    # For CPU demos and tests: learns the generated shapes in minutes.
    "kmax_tiny": ModelSize(
        # ResNet-10-T at half its widths: on two cores the encoder is most of a step.
        encoder=TimmSize(
            "resnet10t",
            options=(("channels", (32, 64, 128, 256)), ("stem_width", 16), ("zero_init_last", False)),
        ),
        pixel_decoder=(
            StageSize(width=64, blocks=1, axial=AxialSize(heads=4, span=65)),
            StageSize(width=32, blocks=1, axial=AxialSize(heads=4, span=65)),
            StageSize(width=24, blocks=1, axial=None),
            StageSize(width=16, blocks=1, axial=None),
            StageSize(width=8, blocks=1, axial=None),
        ),
        transformer=TransformerSize(
            channels=96,
            bottleneck_channels=96,
            head_channels=96,
            key_channels=48,
            heads=4,
            ffn_channels=256,
            embedding_channels=64,
            layers=(2, 2, 2),
            mask_norm_scale=2.0,
        ),
        # Maps of stride 32 are 5x5 at 129 px: the originals' dilations of 6, 12, 18 would see only padding.
        semantic=SemanticSize(channels=32, low_level_channels=(16, 16), rates=(1, 2, 3)),
    ),
}
