"""kMaX-DeepLab: k-means Mask Transformer (Yu et al., ECCV 2022, arXiv 2207.04044), assembled.

Sizes come from `kmax.config.model_sizes`, the differences of the two originals from `model_flavour`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kmax.config import ModelArguments
from kmax.config.model_sizes import ModelSize, ResNetSize
from kmax.errors import InputError
from kmax.model.layers import EncoderConfig, LayerConfig
from kmax.model.model_flavour import MODEL_FLAVOURS
from kmax.model.output import Output
from kmax.model.pixel_decoder import PixelDecoder, PixelDecoderConfig
from kmax.model.pixel_encoder import pixel_encoder
from kmax.model.prediction_heads import Predictor
from kmax.model.semantic_head import DirectSemanticHead, PyramidSemanticHead, SemanticHeadConfig
from kmax.model.transformer_decoder import TransformerDecoder, TransformerDecoderConfig

# Images in [-1, 1] stay within it, even noise of variance 1; those in 0..255 do not, unless black.
INPUT_LIMIT = 8.0
STRIDES = (32, 16, 8, 4, 2)


class KMaX(nn.Module):
    """The complete network, built by `kmax.create_model`.

    Attributes:
        arguments: those of `kmax.create_model`: enough to build the same network.
        image_size: configured (height, width); it accepts others up to the span of its position
            tables.
        output_stride: of the final mask logits and pixel features, 4 or 2.

    Args:
        size: numbers of all parts.
        arguments: everything else. Five decoder stages also mean the semantic head at stride 32.
    """

    def __init__(self, size: ModelSize, arguments: ModelArguments) -> None:
        super().__init__()
        self.arguments = arguments
        self.image_size = arguments.image_size
        self.flavour = flavour = MODEL_FLAVOURS[arguments.flavour]
        self.decoder_stages = size.pixel_decoder[: arguments.decoder_stages]
        self.feature_of_stage = _feature_of_stage(size, arguments)
        layers = LayerConfig(biased_moving_variance=flavour.biased_moving_variance)

        self.pixel_encoder = pixel_encoder(
            size.encoder, EncoderConfig(flavour, arguments.backbone_drop_path, layers=layers)
        )
        channels = self.pixel_encoder.channels
        self.output_stride = self.pixel_encoder.finest_stride if self.feature_of_stage[-1] == 0 else 4
        self.pixel_decoder = PixelDecoder(
            [channels[index] for index in self.feature_of_stage],
            PixelDecoderConfig(
                self.decoder_stages, flavour.bottleneck_dilation, flavour.align_even_widths, layers
            ),
        )
        pixel_channels = self.pixel_decoder.out_channels
        transformer = TransformerDecoderConfig(
            size.transformer,
            arguments.num_classes,
            flavour.clamp_squared_norm,
            layers,
            num_clusters=arguments.num_clusters,
            cross_attention=arguments.cross_attention,
            drop_path=arguments.drop_path,
        )
        self.transformer_decoder = TransformerDecoder(pixel_channels[:3], transformer)
        self.predictor = Predictor(pixel_channels[-1], size.transformer.channels, transformer)
        semantic = SemanticHeadConfig(size.semantic, arguments.num_classes, flavour.align_even_widths, layers)
        _, os4, os8, _, os32 = channels
        self.semantic_head: nn.Module
        if arguments.decoder_stages == 5:
            self.semantic_head = DirectSemanticHead(os32, semantic)
        else:
            self.semantic_head = PyramidSemanticHead((os32, os8, os4), semantic)
        self.check_image_size(self.image_size, "create_model")
        # Depthwise convolutions on CPU and tensor cores on GPU are several times faster with channels last.
        for parameter in self.parameters():
            if parameter.dim() == 4:
                # `contiguous` would not change 1x1 kernels, and slower backward kernels would be used.
                parameter.data = parameter.data.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor, semantic: bool = False) -> Output:
        """Predict masks and classes.

        Args:
            images: float32 [B, 3, H, W] in [-1, 1], both sides odd.
            semantic: run the auxiliary semantic head too; in training it always runs.

        Raises:
            InputError: wrong shape, dtype or size of `images`; except in training, NaN or values far outside.
        """
        self._check_images(images)
        images = images.contiguous(memory_format=torch.channels_last)
        features = self.pixel_encoder(images)
        pixels = self.pixel_decoder([features[index] for index in self.feature_of_stage])
        mask_centers, class_centers, auxiliary = self.transformer_decoder(pixels[:3])
        final = self.predictor(pixels[-1], mask_centers, class_centers)
        semantic_logits = self._semantic(features) if semantic or self.training else None
        return Output(final.class_logits, final.mask_logits, final.pixel_features, semantic_logits, auxiliary)

    def _semantic(self, features: list[Tensor]) -> Tensor:
        _, os4, os8, _, os32 = features
        if self.flavour.semantic_reads_activated:
            os8, os4 = self.pixel_encoder.activation(os8), self.pixel_encoder.activation(os4)
        return self.semantic_head(os32, os8, os4)  # type: ignore[no-any-return]

    def check_image_size(self, image_size: tuple[int, int], where: str) -> None:
        """Raise InputError if images of this (height, width) are not supported."""
        height, width = image_size
        if min(height, width) < 3:
            raise InputError(f"{where}: image size {height}x{width}: both sides must be at least 3 pixels")
        if height % 2 == 0 or width % 2 == 0:
            odd = f"{height + 1 - height % 2}x{width + 1 - width % 2}"
            raise InputError(f"{where}: image size {height}x{width}: both sides must be odd; pad to {odd}")
        stages = zip(STRIDES, self.decoder_stages, strict=False)
        largest = min(stage.axial.span * stride - 1 for stride, stage in stages if stage.axial)
        if max(height, width) > largest:
            raise InputError(
                f"{where}: image size {height}x{width} exceeds the span of the position tables; "
                f"the longer side can be {largest} at most"
            )

    def _check_images(self, images: Tensor) -> None:
        if not isinstance(images, Tensor):
            raise InputError(f"images: expected a tensor [B, 3, H, W], not {type(images).__name__}")
        if images.dim() != 4 or images.shape[1] != 3 or images.shape[0] == 0:
            raise InputError(f"images: expected shape [B, 3, H, W], not {list(images.shape)}")
        if images.dtype != torch.float32:
            raise InputError(f"images: expected float32 in [-1, 1], not {images.dtype}")
        self.check_image_size((images.shape[2], images.shape[3]), "images")
        # Skipped in training, where it would synchronise the GPU, and under a compiler, which cannot branch.
        if images.numel() and not (self.training or images.is_meta or torch.compiler.is_compiling()):
            low, high = (float(extreme) for extreme in images.aminmax())
            if not math.isfinite(low + high):
                bad = [i for i, image in enumerate(images) if not image.isfinite().all()]
                raise InputError(f"images: NaN or infinite values in image {bad[0]} of the batch")
            if not (low > -INPUT_LIMIT and high < INPUT_LIMIT):
                raise InputError(
                    f"images: expected values in [-1, 1], not {low:g} to {high:g}; divide pixels of 0..255 "
                    "by 127.5 and subtract 1"
                )

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters without weight decay: norms, biases, position tables, cluster centres."""
        return {
            name
            for name, parameter in self.named_parameters()
            if parameter.dim() <= 1 or name.endswith((".embeddings", "cluster_centers"))
        }


def _feature_of_stage(size: ModelSize, arguments: ModelArguments) -> list[int]:
    """Which feature of the encoder (0 is the stem, the finest) each stage of the pixel decoder reads."""
    if arguments.decoder_stages == 4:
        return [4, 3, 2, 1]
    stem_first = isinstance(size.encoder, ResNetSize) and MODEL_FLAVOURS[arguments.flavour].resnet_stem_first
    return [4, 3, 2, 0, 1] if stem_first else [4, 3, 2, 1, 0]
