"""Axial attention with relative positions (Axial-DeepLab, arXiv 2003.07853, section 3.2; as in MaX-DeepLab).

Shapes: B images, H W pixels, L length of the attended axis, M length of the other one, n heads, d channels
per head.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kmax.errors import InputError
from kmax.model.layers import GELU_LAYERS, LayerConfig, init_truncated


class RelativePositions(nn.Module):
    """A vector for every offset between a query and a key, shared by the heads.

    Args:
        span: longest axis; the table has an entry for each of the 2 * span - 1 offsets.
        channels: of a vector.
    """

    def __init__(self, span: int, channels: int) -> None:
        super().__init__()
        self.span = span
        self.embeddings = nn.Parameter(torch.empty(2 * span - 1, channels))
        init_truncated(self.embeddings, 1.0)

    def forward(self, length: int) -> Tensor:
        """The vectors [L, L, d]; entry (i, j) belongs to query i and key j."""
        if length > self.span:
            raise InputError(
                f"axial attention: an axis of {length} positions exceeds the position table's span of "
                f"{self.span}; use smaller images"
            )
        positions = torch.arange(length, device=self.embeddings.device)
        offsets = positions[None, :] - positions[:, None] + (self.span - 1)
        return F.embedding(offsets, self.embeddings)


class AxisAttention(nn.Module):
    """Self-attention along the rows or columns of a map.

    The logits are the sum of a content term and two position terms, each normalised by batch norm; there is
    no further scale. The result is the sum of retrieved values and retrieved positions, normalised likewise.

    Args:
        in_channels: channels of the input.
        key_channels: of queries and keys, over all heads.
        value_channels: of values and of the output, over all heads.
        heads: number of heads.
        span: longest axis for the position tables.
        along_height: attend along columns (True) or rows.
        layers: the constants of the norms.
    """

    def __init__(
        self,
        in_channels: int,
        key_channels: int,
        value_channels: int,
        heads: int,
        span: int,
        along_height: bool,
        layers: LayerConfig = GELU_LAYERS,
    ) -> None:
        super().__init__()
        self.key_channels, self.value_channels, self.heads = key_channels, value_channels, heads
        self.along_height = along_height
        self.qkv = nn.Conv2d(in_channels, 2 * key_channels + value_channels, 1, bias=False)
        init_truncated(self.qkv.weight, in_channels**-0.5)
        self.qkv_norm = layers.norm(2 * key_channels + value_channels)
        self.query_positions = RelativePositions(span, key_channels // heads)
        self.key_positions = RelativePositions(span, key_channels // heads)
        self.value_positions = RelativePositions(span, value_channels // heads)
        # Content, query position, key position; heads within each.
        self.similarity_norm = layers.norm(3 * heads)
        self.output_norm = layers.norm(2 * value_channels)  # content, position

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, value_channels, H, W]."""
        # A 1x1 convolution and its norm see pixels one by one, so they run before the map is cut into lines.
        qkv = self.qkv_norm.after(self.qkv, x)
        lines = qkv.permute(0, 3, 1, 2) if self.along_height else qkv.permute(0, 2, 1, 3)  # [B, M, C, L]
        batch, others, channels, length = lines.shape
        lines = lines.reshape(batch * others, channels, length)
        split = [self.key_channels, self.key_channels, self.value_channels]
        parts = torch.split(lines, split, dim=1)
        q, k, v = (torch.unflatten(part, 1, (self.heads, -1)) for part in parts)  # [BM, n, d, L]

        content = torch.einsum("bndi,bndj->bnij", q, k)
        query_position = torch.einsum("bndi,ijd->bnij", q, self.query_positions(length))
        key_position = torch.einsum("bndj,ijd->bnij", k, self.key_positions(length))
        logits = self.similarity_norm(torch.cat([content, query_position, key_position], dim=1))
        logits = logits.unflatten(1, (3, self.heads)).sum(1)
        weights = logits.softmax(-1)

        retrieved = torch.einsum("bnij,bndj->bndi", weights, v)
        retrieved_position = torch.einsum("bnij,ijd->bndi", weights, self.value_positions(length))
        out = torch.cat([retrieved.flatten(1, 2), retrieved_position.flatten(1, 2)], dim=1)  # [BM, 2 C_v, L]
        out = self.output_norm(out).unflatten(1, (2, -1)).sum(1)
        out = out.view(batch, others, self.value_channels, length)
        back = out.permute(0, 2, 3, 1) if self.along_height else out.permute(0, 2, 1, 3)
        # The following operations need channels last; maps and gradients of two layouts would be slow.
        return cast(Tensor, back.contiguous(memory_format=torch.channels_last))


class AxialAttention(nn.Module):
    """Attention along the height, then along the width.

    Args: as of `AxisAttention`, and
        stride: only every `stride`-th row goes on to the attention along the width, and only every
            `stride`-th column leaves it.
    """

    def __init__(
        self,
        in_channels: int,
        key_channels: int,
        value_channels: int,
        heads: int,
        span: int,
        stride: int = 1,
        layers: LayerConfig = GELU_LAYERS,
    ) -> None:
        super().__init__()
        self.stride = stride
        widths = (key_channels, value_channels, heads, span)
        self.height = AxisAttention(in_channels, *widths, along_height=True, layers=layers)
        self.width = AxisAttention(value_channels, *widths, along_height=False, layers=layers)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, value_channels, H / stride, W / stride] (rounded up), not activated."""
        rows = self.height(x)[:, :, :: self.stride]
        return self.width(rows)[:, :, :, :: self.stride]  # type: ignore[no-any-return]
