"""How cluster centres are updated from pixels: the paper's central comparison, as an exchangeable part.

Each maps mask logits [B, N, P] to weights [B, N, P] of the sum over pixels that updates the centres
(kMaX-DeepLab, arXiv 2207.04044, section 3.2). Shapes: B images, N clusters, P pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kmax.config import CrossAttention

Weights = Callable[[Tensor], Tensor]


def kmeans(logits: Tensor) -> Tensor:
    """Each pixel goes to its best cluster (equation 7): one-hot over clusters, without gradient."""
    with torch.no_grad():
        return torch.zeros_like(logits).scatter_(1, logits.max(1, keepdim=True).indices, 1.0)


def cmt(logits: Tensor) -> Tensor:
    """Each pixel is shared among clusters: softmax over clusters (CMT-DeepLab, arXiv 2206.08948)."""
    return logits.softmax(1)


def softmax(logits: Tensor) -> Tensor:
    """Each cluster attends to all pixels: softmax over pixels, the usual cross-attention (equation 3)."""
    return logits.softmax(2)


CROSS_ATTENTIONS: dict[CrossAttention, Weights] = {"kmeans": kmeans, "cmt": cmt, "softmax": softmax}
