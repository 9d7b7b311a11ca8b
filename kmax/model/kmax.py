"""kMaX-DeepLab: k-means Mask Transformer (Yu et al., ECCV 2022, arXiv 2207.04044), assembled.

Sizes come from `sizes`, the differences of the two originals from `flavour`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from kmax.errors import InputError
from kmax.model.flavour import Flavour
from kmax.model.norm import BatchNorm
from kmax.model.output import Output
from kmax.model.pixel_decoder import PixelDecoder
from kmax.model.pixel_encoder import pixel_encoder
from kmax.model.prediction_heads import Predictor
from kmax.model.semantic_head import DirectSemanticHead, PyramidSemanticHead
from kmax.model.sizes import ModelSize, PixelDecoderSize, ResNetSize
from kmax.model.transformer_decoder import TransformerDecoder

FAR_OUT = 8.0  # no image in [-1, 1], not even noise of variance 1; any in 0..255 that is not black
STRIDES = (32, 16, 8, 4, 2)


class KMaX(nn.Module):
    """The whole network; made by `kmax.create_model`.

    Attributes:
        arguments: what `kmax.create_model` was called with, as JSON values: enough to build the same network.
        image_size: (height, width) that it was made for; others are fine where position tables allow.
        output_stride: of the final mask logits and pixel features, 4 or 2.

    Args:
        size: numbers of all parts.
        flavour: choices of the original.
        num_classes: K, without void.
        image_size: (height, width) of the images.
        num_clusters: N.
        decoder_stages: 4; or 5 as on Cityscapes, which also means the semantic head at stride 32.
        cross_attention: form of the cluster update.
        drop_path: drop rate of the transformer decoder's residual updates.
        backbone_drop_path: largest drop rate in the pixel encoder.
        arguments: kept as the attribute.
    """

    def __init__(
        self,
        size: ModelSize,
        flavour: Flavour,
        *,
        num_classes: int,
        image_size: tuple[int, int],
        num_clusters: int,
        decoder_stages: int,
        cross_attention: str,
        drop_path: float,
        backbone_drop_path: float,
        arguments: dict[str, Any],
    ) -> None:
        super().__init__()
        self.arguments = arguments
        self.image_size = image_size
        self.flavour = flavour
        self.decoder_size = PixelDecoderSize(size.pixel_decoder.stages[:decoder_stages])
        stem_first = isinstance(size.encoder, ResNetSize) and flavour.resnet_stem_first
        # Which feature of the encoder (0 is the stem, the finest) each stage of the decoder reads.
        self.feature_of_stage = [4, 3, 2, 1]
        if decoder_stages == 5:
            self.feature_of_stage = [4, 3, 2, 0, 1] if stem_first else [4, 3, 2, 1, 0]

        self.pixel_encoder = pixel_encoder(size.encoder, flavour, backbone_drop_path)
        channels = self.pixel_encoder.channels
        self.output_stride = self.pixel_encoder.finest_stride if self.feature_of_stage[-1] == 0 else 4
        self.pixel_decoder = PixelDecoder(
            [channels[index] for index in self.feature_of_stage],
            self.decoder_size,
            flavour.bottleneck_dilation,
            flavour.align_even_widths,
        )
        pixel_channels = self.pixel_decoder.out_channels
        transformer = size.transformer
        self.transformer_decoder = TransformerDecoder(
            pixel_channels[:3],
            transformer,
            num_clusters,
            num_classes,
            cross_attention,
            drop_path,
            flavour.clamp_squared_norm,
        )
        self.predictor = Predictor(
            pixel_channels[-1],
            transformer.channels,
            transformer,
            num_classes,
            flavour.clamp_squared_norm,
        )
        _, os4, os8, _, os32 = channels
        self.semantic_head: nn.Module
        if decoder_stages == 5:
            self.semantic_head = DirectSemanticHead(os32, size.semantic, num_classes)
        else:
            self.semantic_head = PyramidSemanticHead(
                (os32, os8, os4), size.semantic, num_classes, flavour.align_even_widths
            )
        for module in self.modules():
            if isinstance(module, BatchNorm):
                module.biased_moving_variance = flavour.biased_moving_variance
        self.check_image_size(image_size, "create_model")
        # Depthwise convolutions on CPU and tensor cores on GPU are several times faster with channels last.
        for parameter in self.parameters():
            if parameter.dim() == 4:
                # `contiguous` would leave 1x1 kernels as they are: the library then takes slower ways back.
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
        """Raise InputError unless images of this (height, width) can go through."""
        height, width = image_size
        if min(height, width) < 3:
            raise InputError(f"{where}: image size {height}x{width}: sides of 3 pixels or more are wanted")
        if height % 2 == 0 or width % 2 == 0:
            odd = f"{height + 1 - height % 2}x{width + 1 - width % 2}"
            raise InputError(f"{where}: image size {height}x{width}: both sides must be odd; pad to {odd}")
        stages = zip(STRIDES, self.decoder_size.stages, strict=False)
        largest = min(stage.axial.span * stride - 1 for stride, stage in stages if stage.axial)
        if max(height, width) > largest:
            raise InputError(
                f"{where}: image size {height}x{width} exceeds what the position tables allow; "
                f"the longer side can be {largest} at most"
            )

    def _check_images(self, images: Tensor) -> None:
        if not isinstance(images, Tensor):
            raise InputError(f"images: a tensor [B, 3, H, W] is wanted, not {type(images).__name__}")
        if images.dim() != 4 or images.shape[1] != 3 or images.shape[0] == 0:
            raise InputError(f"images: shape [B, 3, H, W] is wanted, not {list(images.shape)}")
        if images.dtype != torch.float32:
            raise InputError(f"images: float32 in [-1, 1] is wanted, not {images.dtype}")
        self.check_image_size((images.shape[2], images.shape[3]), "images")
        # Training makes its own images, and on a GPU would wait for the answer; a compiler cannot.
        if images.numel() and not (self.training or images.is_meta or torch.compiler.is_compiling()):
            low, high = (float(extreme) for extreme in images.aminmax())
            if not math.isfinite(low + high):
                damaged = [i for i, image in enumerate(images) if not image.isfinite().all()]
                raise InputError(f"images: NaN or infinite values in image {damaged[0]} of the batch")
            if not (low > -FAR_OUT and high < FAR_OUT):
                raise InputError(
                    f"images: values in [-1, 1] are wanted, not {low:g} to {high:g}; divide pixels of 0..255 "
                    "by 127.5 and subtract 1"
                )

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay leaves alone: norms, biases, position tables, centres."""
        return {
            name
            for name, parameter in self.named_parameters()
            if parameter.dim() <= 1 or name.endswith((".embeddings", "cluster_centers"))
        }
