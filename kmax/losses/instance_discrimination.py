"""Pixel-wise instance discrimination (CMT-DeepLab, section 3.3): pixels of one segment get similar features.

For a sampled pixel k with feature f_k, the similarities s_kj = f_k . f_j / t to all sampled pixels j go
through a softmax, and the target spreads evenly over the pixels of the same segment. The cross-entropy is

    log sum_j exp(s_kj) - f_k . (mean of f_j over the pixels of k's segment) / t

so only the first half needs the K x K similarities, and the target matrix is never built. A pixel of several
segments shares itself among them: w_mk of it is in segment m, and its mean weighs f_j by sum_m w_mk w_mj.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

TEMPERATURE = 0.3
# Similarities computed at a time: on a CPU as many as fit the cache, on a GPU enough to fill the device.
CPU_SIMILARITIES, GPU_SIMILARITIES = 2**20, 2**25


def instance_discrimination_loss(features: Tensor, shares: Tensor) -> Tensor:
    """Cross-entropy of the similarities between sampled pixels, per image.

    Args:
        features: [B, D, k], L2-normalised.
        shares: [B, M, k], of each sampled pixel in each segment; they sum to 1, or to 0 for a pixel that has
            no target, but is still a negative.

    Returns:
        [B], the mean over sampled pixels with a segment.
    """
    shares = shares.to(features.dtype)
    areas = (shares.sum(2)[:, None] @ shares).squeeze(1)  # [B, k], mean area of the pixel's segments
    has_segment = (areas > 0).to(features.dtype)
    weight = has_segment / has_segment.sum(1, keepdim=True).clamp(min=1)
    features = features * TEMPERATURE**-0.5
    sums = shares @ features.transpose(1, 2)  # [B, M, D]
    # Less than one pixel may have been drawn of a shared segment: its mean has a weight below 1.
    means = (shares * (weight / areas.clamp(min=1))[:, None]) @ features.transpose(1, 2)
    positive = (means * sums).sum((1, 2))
    partition: Tensor = _WeightedLogPartition.apply(features, weight * areas.clamp(max=1))
    return partition - positive


class _WeightedLogPartition(torch.autograd.Function):
    """sum_k w_k log sum_j exp(f_k . f_j), per image, for features F [B, D, k] and weights [B, k].

    The gradient is computed with the value, a few images at a time, so that no K x K matrix outlives the
    call: with E = exp(F^T F) and r = w / rowsum(E) it is F (E diag(r) + diag(r) E), or F times the entries
    E_kj (r_k + r_j). Both matrices are symmetric: only the part of each band of columns on and below the
    diagonal is computed. Features are short (norm at most 1 / sqrt(t)): exp needs no shift.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor) -> Tensor:
        images, _, pixels = features.shape
        limit = CPU_SIMILARITIES if features.device.type == "cpu" else GPU_SIMILARITIES
        at_once, columns = max(1, limit // pixels**2), max(1, limit // pixels)
        bands = [(start, min(start + columns, pixels)) for start in range(0, pixels, columns)]
        # [B, k, D]: products are fastest if the numbers of a pixel are adjacent.
        by_pixel = features.transpose(1, 2).contiguous()
        buffers = _buffers(by_pixel, bands, min(at_once, images), ctx.needs_input_grad[0])
        values, gradients = [], []
        for first in range(0, images, at_once):
            f, w = by_pixel[first : first + at_once], weight[first : first + at_once]
            value, gradient = _log_partition(f, w, bands, buffers, ctx.needs_input_grad[0])
            values.append(value)
            gradients.append(gradient)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(torch.cat(gradients).transpose(1, 2))
        return torch.cat(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad[:, None, None], None


Bands = list[tuple[int, int]]  # first column and the one after the last


def _buffers(f: Tensor, bands: Bands, images: int, all_bands: bool) -> list[Tensor]:
    """A buffer [images * rows * columns] for each band; the same one for all where none is kept."""
    sizes = [images * (f.shape[1] - start) * (end - start) for start, end in bands]
    if all_bands:
        return [f.new_empty(size) for size in sizes]
    return [f.new_empty(sizes[0])] * len(bands)


def _log_partition(
    f: Tensor, w: Tensor, bands: Bands, buffers: list[Tensor], with_gradient: bool
) -> tuple[Tensor, Tensor]:
    """The value [B] and its gradient [B, k, D] (zeros if not needed), one band of columns of E at a time."""
    images, pixels, _ = f.shape
    kept, total, gradient = [], torch.zeros_like(w), torch.zeros_like(f)
    for (start, end), buffer in zip(bands, buffers, strict=True):
        shape = (images, pixels - start, end - start)
        e = buffer[: math.prod(shape)].view(shape)
        torch.bmm(f[:, start:], f[:, start:end].transpose(1, 2), out=e).exp_()
        total[:, start:] += e.sum(2)
        total[:, start:end] += e[:, end - start :].sum(1)
        kept.append(e)
    if with_gradient:
        r = w / total
        for (start, end), e in zip(bands, kept, strict=True):
            e.mul_(r[:, start:, None] + r[:, None, start:end])
            gradient[:, start:].baddbmm_(e, f[:, start:end])
            gradient[:, start:end].baddbmm_(e[:, end - start :].transpose(1, 2), f[:, end:])
    return (w * total.log()).sum(1), gradient
