"""Heads that turn pixels and cluster centres into masks and classes.

Shapes: B images, N clusters, C channels, D embedding channels, K classes, h w pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kmax.config.model_sizes import TransformerSize
from kmax.model.layers import ConvBN, LayerConfig, LinearBN, init_truncated, l2_normalize

HEAD_STD = 0.01
VOID_PRIOR = 0.9


@dataclass(frozen=True)
class PredictorConfig:
    """The configuration of a predictor, except its input channels.

    Attributes:
        size: widths inside the pixel head and of D; first mask scale.
        num_classes: K, without void.
        clamp_squared_norm: see `ModelFlavour`.
        layers: activation and norms.
    """

    size: TransformerSize
    num_classes: int
    clamp_squared_norm: bool
    layers: LayerConfig


@dataclass(frozen=True)
class Prediction:
    """Masks and classes of one place in the network.

    Attributes:
        class_logits: [B, N, K+1], void last.
        mask_logits: [B, N, h, w].
        pixel_features: [B, D, h, w], of length 1.
    """

    class_logits: Tensor
    mask_logits: Tensor
    pixel_features: Tensor


class Predictor(nn.Module):
    """Pixel head, mask head and class head, with the product of the first two as mask logits.

    Args:
        pixel_channels: of the pixel features.
        center_channels: of the cluster centres.
        config: everything else.
    """

    def __init__(self, pixel_channels: int, center_channels: int, config: PredictorConfig) -> None:
        super().__init__()
        size, num_classes, layers = config.size, config.num_classes, config.layers
        channels, embedding_channels = size.head_channels, size.embedding_channels
        self.clamp_squared_norm = config.clamp_squared_norm
        self.pixel_head = nn.Sequential(
            ConvBN(pixel_channels, pixel_channels, 5, depthwise=True, act=True, layers=layers),
            ConvBN(pixel_channels, channels, act=True, layers=layers),
            ConvBN(channels, embedding_channels, bias=True, std=HEAD_STD, layers=layers),
        )
        self.mask_head = LinearBN(center_channels, embedding_channels, layers=layers)
        self.class_head = nn.Linear(center_channels, num_classes + 1)
        init_truncated(self.class_head.weight, HEAD_STD)
        nn.init.zeros_(self.class_head.bias)
        self.mask_norm = layers.norm(1)  # one channel, shared by the clusters
        nn.init.constant_(self.mask_norm.weight, size.mask_norm_scale)
        # Most clusters are void, so void starts with probability 0.9; this constant is not in checkpoints.
        self.void_logit = math.log(num_classes * VOID_PRIOR / (1.0 - VOID_PRIOR))

    def forward(self, pixels: Tensor, mask_centers: Tensor, class_centers: Tensor) -> Prediction:
        """Predict from pixels [B, C', h, w] and cluster centres [B, N, C] for masks and for classes."""
        pixel_features = l2_normalize(self.pixel_head(pixels), self.clamp_squared_norm)
        # Clusters last in memory, as channels are: product, norm and all that compares clusters are faster.
        flat = pixel_features.flatten(2).transpose(1, 2) @ self.mask_head(mask_centers).transpose(1, 2)
        flat = self.mask_norm(flat[:, None]).squeeze(1).transpose(1, 2)  # [B, N, P]
        mask_logits = flat.unflatten(2, pixel_features.shape[2:])
        class_logits = self.class_head(class_centers)
        void = torch.zeros_like(class_logits[0, 0])
        void[-1] = self.void_logit
        return Prediction(class_logits + void, mask_logits, pixel_features)
