"""The sizes of the models: all that tells one from another is numbers here.

Further models are further entries of `SIZES`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EncoderSize:
    """A timm network as pixel encoder.

    Attributes:
        timm_name: name of the network in timm.
        activation: what its stages leave out at their end: "none" when they return activated features.
        options: further arguments of timm's constructor.
    """

    timm_name: str
    activation: str
    options: tuple[tuple[str, bool | float | str | tuple[int, ...]], ...] = ()


@dataclass(frozen=True)
class AxialSize:
    """Heads of axial attention, and the longest axis that its position tables allow."""

    heads: int
    span: int


@dataclass(frozen=True)
class StageSize:
    """A stage of the pixel decoder; its output has four times `width` channels.

    Its blocks are axial attention, or bottlenecks where `axial` is None.
    """

    width: int
    blocks: int
    axial: AxialSize | None


@dataclass(frozen=True)
class PixelDecoderSize:
    """The stages, coarsest first."""

    stages: tuple[StageSize, ...]


@dataclass(frozen=True)
class TransformerSize:
    """The k-means transformer decoder.

    Attributes:
        channels: of cluster centres and of projected pixels.
        key_channels: of the self-attention, over all heads; values have `channels`.
        heads: of the self-attention.
        ffn_channels: hidden channels of the feed-forward network.
        embedding_channels: of the space where pixels and cluster centres are compared.
        layers: number of layers at strides 32, 16 and 8.
        mask_norm_scale: first scale of the batch norm on mask logits. The originals start from 0.1, and take
            thousands of steps to masks that pass the thresholds.
    """

    channels: int
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
    """One model, all parts."""

    encoder: EncoderSize
    pixel_decoder: PixelDecoderSize
    transformer: TransformerSize
    semantic: SemanticSize


SIZES = {
    # For CPU demos and tests: learns the generated shapes in minutes.
    "kmax_tiny": ModelSize(
        # ResNet-10-T at half its widths: on two cores the encoder is most of a step.
        encoder=EncoderSize(
            "resnet10t",
            activation="none",
            options=(("channels", (32, 64, 128, 256)), ("stem_width", 16), ("zero_init_last", False)),
        ),
        pixel_decoder=PixelDecoderSize(
            stages=(
                StageSize(width=64, blocks=1, axial=AxialSize(heads=4, span=65)),
                StageSize(width=32, blocks=1, axial=AxialSize(heads=4, span=65)),
                StageSize(width=24, blocks=1, axial=None),
                StageSize(width=16, blocks=1, axial=None),
                StageSize(width=8, blocks=1, axial=None),
            )
        ),
        transformer=TransformerSize(
            channels=96,
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
