"""The k-means transformer decoder (kMaX-DeepLab, arXiv 2207.04044, section 3.2 and figure 1).

Shapes: B images, N clusters, C channels, C' of them in the bottleneck, P = h w pixels, n heads, d of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn import functional as F

from kmax.model.cross_attention import cross_attention
from kmax.model.layers import ConvBN, LinearBN, init_truncated, norm_tokens
from kmax.model.norm import BatchNorm
from kmax.model.output import Auxiliary
from kmax.model.prediction_heads import Predictor
from kmax.model.sizes import TransformerSize


class SelfAttention(nn.Module):
    """Attention among cluster centres; batch norm on the logits takes the place of a scale."""

    def __init__(self, size: TransformerSize) -> None:
        super().__init__()
        self.heads = size.heads
        channels = size.bottleneck_channels
        self.split = [size.key_channels, size.key_channels, channels]
        self.qkv = LinearBN(channels, sum(self.split), std=channels**-0.5)
        self.similarity_norm = BatchNorm(size.heads)
        self.output_norm = BatchNorm(channels)
        self.project = LinearBN(channels, size.channels, zero_norm=True)

    def forward(self, x: Tensor) -> Tensor:
        """Projected centres [B, N, C'] -> update [B, N, C]."""
        q, k, v = (part.unflatten(2, (self.heads, -1)) for part in self.qkv(x).split(self.split, dim=2))
        logits = self.similarity_norm(torch.einsum("bind,bjnd->bnij", q, k))
        retrieved = torch.einsum("bnij,bjnd->bind", logits.softmax(-1), v).flatten(2)
        return self.project(F.gelu(norm_tokens(self.output_norm, retrieved)))  # type: ignore[no-any-return]


class ClusterUpdate(nn.Module):
    """The update of cluster centres by the sum (not the mean) of their pixels' values."""

    def __init__(self, size: TransformerSize, form: str) -> None:
        super().__init__()
        channels = size.bottleneck_channels
        self.weights = cross_attention(form)
        self.value = ConvBN(channels, channels, std=channels**-0.5)
        self.norm = BatchNorm(channels)
        self.project = LinearBN(channels, size.channels, zero_norm=True)

    def forward(self, pixels: Tensor, mask_logits: Tensor) -> Tensor:
        """pixels [B, C', h, w], mask_logits [B, N, h, w] -> update [B, N, C]."""
        weights_BNP = self.weights(mask_logits.flatten(2).float())
        values_BCP = self.value(pixels).flatten(2).float()
        # Sums over hundreds of pixels lose digits in half precision.
        with torch.autocast(pixels.device.type, enabled=False):
            update = torch.einsum("bnp,bcp->bnc", weights_BNP, values_BCP)
        return self.project(norm_tokens(self.norm, update))  # type: ignore[no-any-return]


class KMeansLayer(nn.Module):
    """One layer: predict masks, assign pixels, update the centres, let them talk, transform them.

    Args:
        pixel_channels: channels of the pixel decoder's output that the layer reads.
        size: widths.
        num_classes: K, without void.
        form: of the cross-attention.
        drop_path: drop rate of the three residual updates, each with its own draw.
        clamp_squared_norm: see `Flavour`.
    """

    def __init__(
        self,
        pixel_channels: int,
        size: TransformerSize,
        num_classes: int,
        form: str,
        drop_path: float,
        clamp_squared_norm: bool,
    ) -> None:
        super().__init__()
        channels, bottleneck = size.channels, size.bottleneck_channels
        self.project_pixels = ConvBN(pixel_channels, bottleneck, act=True)
        self.project_centers = LinearBN(channels, bottleneck, act=True)
        self.predictor = Predictor(bottleneck, bottleneck, size, num_classes, clamp_squared_norm)
        self.cluster_update = ClusterUpdate(size, form)
        self.self_attention = SelfAttention(size)
        self.ffn = nn.Sequential(
            LinearBN(channels, size.ffn_channels, act=True),
            LinearBN(size.ffn_channels, channels, zero_norm=True),
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, pixels: Tensor, centers: Tensor) -> tuple[Tensor, Auxiliary]:
        """pixels [B, C'', h, w] (not activated), centers [B, N, C] -> new centers, the layer's prediction."""
        pixels = self.project_pixels(F.gelu(pixels))
        projected = self.project_centers(centers)
        prediction = self.predictor(pixels, projected, projected)

        centers = centers + self.drop_path(self.cluster_update(pixels, prediction.mask_logits))
        # Reads the centres as they were before the update, as the originals do.
        centers = F.gelu(centers + self.drop_path(self.self_attention(projected)))
        centers = F.gelu(centers + self.drop_path(self.ffn(centers)))
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
        size: widths and numbers of layers.
        num_clusters: N.
        num_classes: K, without void.
        form: of the cross-attention.
        drop_path: drop rate of the residual updates.
        clamp_squared_norm: see `Flavour`.
    """

    def __init__(
        self,
        pixel_channels: Sequence[int],
        size: TransformerSize,
        num_clusters: int,
        num_classes: int,
        form: str,
        drop_path: float,
        clamp_squared_norm: bool,
    ) -> None:
        super().__init__()
        self.cluster_centers = nn.Parameter(torch.empty(num_clusters, size.channels))
        init_truncated(self.cluster_centers, 1.0)
        self.level_of_layer = [level for level, count in enumerate(size.layers) for _ in range(count)]
        self.layers = nn.ModuleList(
            KMeansLayer(pixel_channels[level], size, num_classes, form, drop_path, clamp_squared_norm)
            for level in self.level_of_layer
        )
        self.mask_projection = LinearBN(size.channels, size.channels, act=True)
        self.class_projection = LinearBN(size.channels, size.channels, act=True)

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
