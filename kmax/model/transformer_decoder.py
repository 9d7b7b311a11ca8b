"""The k-means transformer decoder (kMaX-DeepLab, arXiv 2207.04044, section 3.2 and figure 1).

Shapes: B images, N clusters, C channels, C' of them in the bottleneck, P = h w pixels, n heads, d of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from kmax.config import CrossAttention
from kmax.model.cross_attention import CROSS_ATTENTIONS
from kmax.model.layers import ConvBN, LinearBN, init_truncated, norm_tokens
from kmax.model.output import Auxiliary
from kmax.model.prediction_heads import Predictor, PredictorConfig


@dataclass(frozen=True)
class TransformerDecoderConfig(PredictorConfig):
    """The configuration of a transformer decoder and its predictors, except input channels.

    Attributes:
        num_clusters: N.
        cross_attention: how centres are updated from pixels.
        drop_path: drop rate of the three residual updates of a layer, each with its own draw.
    """

    num_clusters: int
    cross_attention: CrossAttention
    drop_path: float


class SelfAttention(nn.Module):
    """Attention among cluster centres; batch norm on the logits replaces the scale."""

    def __init__(self, config: TransformerDecoderConfig) -> None:
        super().__init__()
        size, self.layers = config.size, config.layers
        self.heads = size.heads
        channels = size.bottleneck_channels
        self.split = [size.key_channels, size.key_channels, channels]
        self.qkv = LinearBN(channels, sum(self.split), std=channels**-0.5, layers=self.layers)
        self.similarity_norm = self.layers.norm(size.heads)
        self.output_norm = self.layers.norm(channels)
        self.project = LinearBN(channels, size.channels, zero_norm=True, layers=self.layers)

    def forward(self, x: Tensor) -> Tensor:
        """Projected centres [B, N, C'] -> update [B, N, C]."""
        q, k, v = (part.unflatten(2, (self.heads, -1)) for part in self.qkv(x).split(self.split, dim=2))
        logits = self.similarity_norm(torch.einsum("bind,bjnd->bnij", q, k))
        retrieved = torch.einsum("bnij,bjnd->bind", logits.softmax(-1), v).flatten(2)
        activated = self.layers.activate(norm_tokens(self.output_norm, retrieved))
        return self.project(activated)  # type: ignore[no-any-return]


class ClusterUpdate(nn.Module):
    """The update of cluster centres by the sum (not the mean) of their pixels' values."""

    def __init__(self, config: TransformerDecoderConfig) -> None:
        super().__init__()
        size, layers = config.size, config.layers
        channels = size.bottleneck_channels
        self.weights = CROSS_ATTENTIONS[config.cross_attention]
        self.value = ConvBN(channels, channels, std=channels**-0.5, layers=layers)
        self.norm = layers.norm(channels)
        self.project = LinearBN(channels, size.channels, zero_norm=True, layers=layers)

    def forward(self, pixels: Tensor, mask_logits: Tensor) -> Tensor:
        """pixels [B, C', h, w], mask_logits [B, N, h, w] -> update [B, N, C]."""
        weights_BNP = self.weights(mask_logits.flatten(2).float())
        values_BCP = self.value(pixels).flatten(2).float()
        # Sums over hundreds of pixels lose digits in half precision.
        with torch.autocast(pixels.device.type, enabled=False):
            update = torch.einsum("bnp,bcp->bnc", weights_BNP, values_BCP)
        return self.project(norm_tokens(self.norm, update))  # type: ignore[no-any-return]


class KMeansLayer(nn.Module):
    """One layer: predict masks, assign pixels, update the centres, self-attention, feed-forward network.

    Args:
        pixel_channels: channels of the pixel decoder's output that the layer reads.
        config: everything else.
    """

    def __init__(self, pixel_channels: int, config: TransformerDecoderConfig) -> None:
        super().__init__()
        size, self.layers = config.size, config.layers
        channels, bottleneck = size.channels, size.bottleneck_channels
        self.project_pixels = ConvBN(pixel_channels, bottleneck, act=True, layers=self.layers)
        self.project_centers = LinearBN(channels, bottleneck, act=True, layers=self.layers)
        self.predictor = Predictor(bottleneck, bottleneck, config)
        self.cluster_update = ClusterUpdate(config)
        self.self_attention = SelfAttention(config)
        self.ffn = nn.Sequential(
            LinearBN(channels, size.ffn_channels, act=True, layers=self.layers),
            LinearBN(size.ffn_channels, channels, zero_norm=True, layers=self.layers),
        )
        self.drop_path = DropPath(config.drop_path)

    def forward(self, pixels: Tensor, centers: Tensor) -> tuple[Tensor, Auxiliary]:
        """pixels [B, C'', h, w] (not activated), centers [B, N, C] -> new centers, the layer's prediction."""
        pixels = self.project_pixels(self.layers.activate(pixels))
        projected = self.project_centers(centers)
        prediction = self.predictor(pixels, projected, projected)

        centers = centers + self.drop_path(self.cluster_update(pixels, prediction.mask_logits))
        # Reads the centres as they were before the update, as the originals do.
        centers = self.layers.activate(centers + self.drop_path(self.self_attention(projected)))
        centers = self.layers.activate(centers + self.drop_path(self.ffn(centers)))
        return centers, Auxiliary(
            prediction.class_logits,
            prediction.mask_logits,
            prediction.pixel_features,
            prediction.mask_logits.detach().argmax(1),
        )


class TransformerDecoder(nn.Module):
    """Layers of all strides, coarse to fine, on learned initial centres.

    Args:
        pixel_channels: channels of the pixel decoder's outputs at strides 32, 16 and 8.
        config: everything else.
    """

    def __init__(self, pixel_channels: Sequence[int], config: TransformerDecoderConfig) -> None:
        super().__init__()
        size = config.size
        self.cluster_centers = nn.Parameter(torch.empty(config.num_clusters, size.channels))
        init_truncated(self.cluster_centers, 1.0)
        self.level_of_layer = [level for level, count in enumerate(size.layers) for _ in range(count)]
        self.layers = nn.ModuleList(
            KMeansLayer(pixel_channels[level], config) for level in self.level_of_layer
        )
        self.mask_projection = LinearBN(size.channels, size.channels, act=True, layers=config.layers)
        self.class_projection = LinearBN(size.channels, size.channels, act=True, layers=config.layers)

    def forward(self, pixels: Sequence[Tensor]) -> tuple[Tensor, Tensor, list[Auxiliary]]:
        """Final centres for masks and for classes [B, N, C], and the layers' predictions.

        Args:
            pixels: outputs of the pixel decoder [B, C, h, w] at strides 32, 16 and 8.
        """
        centers = self.cluster_centers.repeat(pixels[0].shape[0], 1, 1)
        auxiliary = []
        for level, layer in zip(self.level_of_layer, self.layers, strict=True):
            centers, prediction = layer(pixels[level], centers)
            auxiliary.append(prediction)
        return self.mask_projection(centers), self.class_projection(centers), auxiliary
