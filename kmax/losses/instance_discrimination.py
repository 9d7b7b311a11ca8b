"""Pixel-wise instance discrimination (CMT-DeepLab, section 3.3): pixels of one segment have alike features.

For a sampled pixel k with feature f_k, the similarities s_kj = f_k . f_j / t to all sampled pixels j go
through a softmax, and the target spreads evenly over the pixels of the same segment. The cross-entropy is

    log sum_j exp(s_kj) - f_k . (mean of f_j over the pixels of k's segment) / t

so only the first half needs the K x K similarities, and the target matrix is never made.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kmax.losses.targets import one_hot

TEMPERATURE = 0.3
MAX_SIMILARITIES = 2**21  # held at a time: more images at once gain nothing, and fall out of the cache


def instance_discrimination_loss(features: Tensor, segment: Tensor, segments: int) -> Tensor:
    """Cross-entropy of the similarities between sampled pixels, per image.

    Args:
        features: [B, D, k], L2-normalised.
        segment: int64 [B, k], segment of each sampled pixel; -1: has no target, but is still a negative.
        segments: M, how many there can be.

    Returns:
        [B], the mean over sampled pixels with a segment.
    """
    has_segment = (segment >= 0).to(features.dtype)
    weight = has_segment / has_segment.sum(1, keepdim=True).clamp(min=1)
    features = features * TEMPERATURE**-0.5
    members = one_hot(segment, segments).to(features.dtype)  # [B, M, k]
    sums = members @ features.transpose(1, 2)  # [B, M, D]
    # sum over k of f_k . mean of its segment = sum over segments of |sum of f|^2 / count
    per_segment = sums.square().sum(2) / members.sum(2).clamp(min=1)
    positive = per_segment.sum(1) / has_segment.sum(1).clamp(min=1)
    partition: Tensor = _WeightedLogPartition.apply(features, weight)
    return partition - positive


class _WeightedLogPartition(torch.autograd.Function):
    """sum_k w_k log sum_j exp(f_k . f_j), per image, for features F [B, D, k] and weights [B, k].

    The gradient is made along with the value, a few images at a time, so that no K x K matrix outlives the
    call: with E = exp(F^T F), which is symmetric, and r = w / rowsum(E) it is F (E diag(r) + diag(r) E), or F
    times the entries E_kj (r_k + r_j). Features are short (norm at most 1 / sqrt(t)): exp needs no shift.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor) -> Tensor:
        images, _, pixels = features.shape
        at_once = max(1, MAX_SIMILARITIES // pixels**2)
        values, gradients = [], []
        for first in range(0, images, at_once):
            f, w = features[first : first + at_once], weight[first : first + at_once]
            e = torch.bmm(f.transpose(1, 2), f).exp_()
            total = e.sum(2)
            values.append((w * total.log()).sum(1))
            if ctx.needs_input_grad[0]:
                r = w / total
                gradients.append(torch.bmm(f, e.mul_(r[:, :, None] + r[:, None])))
        if gradients:
            ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad[:, None, None], None
