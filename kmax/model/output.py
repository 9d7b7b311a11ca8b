"""The output of the network.

Legend of shapes: B images, N cluster centres, K classes, D embedding channels, h w pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Auxiliary:
    """Prediction of one k-means layer, at the native stride of that layer.

    Attributes:
        class_logits: [B, N, K+1]; void is last.
        mask_logits: [B, N, h_i, w_i].
        pixel_features: [B, D, h_i, w_i], L2-normalised over channels.
        assignment: int64 [B, h_i, w_i], the cluster that each pixel is assigned to (argmax over clusters).
    """

    class_logits: Tensor
    mask_logits: Tensor
    pixel_features: Tensor
    assignment: Tensor


@dataclass(frozen=True)
class Output:
    """Final prediction and those of the k-means layers.

    Attributes:
        class_logits: [B, N, K+1]; classes in dataset order, void last.
        mask_logits: [B, N, h, w] at the stride of the last decoder stage: 4, or 2 where five stages end at
            an encoder's stem of stride 2.
        pixel_features: [B, D, h, w], L2-normalised over channels.
        semantic_logits: [B, K or K+1, h', w'] of the auxiliary semantic head, when training or on request.
            With K+1 channels, void is last (weights of the TensorFlow original are permuted when ported).
        auxiliary: one per k-means layer, from stride 32 to stride 8.
    """

    class_logits: Tensor
    mask_logits: Tensor
    pixel_features: Tensor
    semantic_logits: Tensor | None
    auxiliary: list[Auxiliary]
