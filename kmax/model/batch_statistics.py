"""Normalisation by the statistics of the batch, exact on CPUs and over several ranks.

Torch's batch norm on a CPU adds up the values of a channels-last tensor one after the other in float32. Its
errors of 1e-5 standard deviations grow over the fifty norms of a ResNet until pixels change their cluster.
Here sums are cascaded, and values are centred before they are squared and scaled, so only the rounding
of single values remains.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_CACHED = 1 << 18  # values per piece on a CPU, so that what follows on a piece finds it in the cache


class NormaliseByBatch(torch.autograd.Function):
    """Batch norm by the statistics of all ranks; one gather forward, one sum backward.

    Gradients of the input are those of the union of all ranks' inputs; gradients of weight and bias are this
    rank's share. The ranks' inputs may differ in size; none is empty.

    With `gelu` an exact GELU follows, whose input is recomputed in the backward pass, not stored.

    Apply to (x [B, C, ...], weight [C], bias [C], eps, gelu). Returns y like x, and of all ranks without
    gradient: mean [C], biased variance [C], number of values per channel [1].
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, gelu: bool
    ) -> tuple[Tensor, ...]:
        """See the class."""
        values = _rows(x)
        values = values.to(torch.promote_types(values.dtype, torch.float32))
        near_mean, size = values.mean(0), len(values)
        centred, square = torch.empty_like(values), values.new_empty(_step(values), values.shape[1])
        sums, squares = [], []
        for piece in _pieces(values):
            part = torch.sub(values[piece], near_mean, out=centred[piece])
            sums.append(part.sum(0))
            squares.append(torch.mul(part, part, out=square[: len(part)]).sum(0))
        rest = _total(sums) / size  # the residue of the rounded mean
        mean, variance = near_mean + rest, _total(squares) / size - rest.square()
        count = values.new_full((1,), size)
        offset = -rest  # centred + offset has the mean 0
        if world_size() > 1:
            union = _of_all_ranks(near_mean.double() + rest, variance.double(), size)
            offset = (near_mean - union[0]).to(values.dtype)
            mean, variance, count = (t.to(values.dtype) for t in union)
        scale = torch.rsqrt(variance + eps)
        factor = weight * scale
        strides = _like(values, x).stride()
        y = torch.empty_strided(x.shape, strides, dtype=x.dtype, device=x.device)  # activations overwrite it
        shift, rows = torch.addcmul(bias, offset, factor), _rows(y)
        for piece in _pieces(values):
            part = torch.addcmul(shift, centred[piece], factor, out=rows[piece])
            if gelu:
                torch.ops.aten.gelu_(part)
        ctx.save_for_backward(centred.to(x.dtype), weight, scale, offset, count, shift)
        ctx.gelu = gelu
        ctx.mark_non_differentiable(mean, variance, count)
        return y, mean, variance, count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, weight and bias."""
        centred, weight, scale, offset, count, shift = ctx.saved_tensors
        grad = _rows(grads[0])
        if ctx.gelu:
            grad = _before_gelu(grad, centred, weight * scale, shift)
        if world_size() == 1:
            # Of centred values torch's kernel has no sum in which errors could grow.
            return (*_native_backward(_like(grad, grads[0]), centred, weight, offset, scale), None, None)
        centred = centred.to(scale.dtype)
        grad = grad.to(centred.dtype)
        grad_sum = torch.zeros_like(scale, dtype=torch.float64)
        product_sum = torch.zeros_like(grad_sum)
        product = centred.new_empty(_step(centred), centred.shape[1])
        for piece in _pieces(grad):
            part = grad[piece]
            grad_sum += part.sum(0)
            product_sum += torch.mul(part, centred[piece], out=product[: len(part)]).sum(0)
        grad_weight = (product_sum + grad_sum * offset) * scale
        sums = torch.stack([grad_sum, grad_weight])
        dist.all_reduce(sums)
        mean_grad, mean_product = sums / count
        # (grad - mean_grad - normalised mean_product) weight scale; normalised = (centred + offset) scale
        factor = (weight * scale).double()
        slope = -mean_product * scale * factor
        shift, slope, factor = (
            t.to(centred.dtype) for t in (slope * offset - mean_grad * factor, slope, factor)
        )
        result = torch.empty_like(grad)
        for piece in _pieces(grad):
            part = torch.addcmul(shift, centred[piece], slope, out=result[piece])
            part.addcmul_(grad[piece], factor)
        return (
            _like(result, grads[0]).to(grads[0].dtype),
            grad_weight.to(weight.dtype),
            grad_sum.to(weight.dtype),
            None,
            None,
        )


def _before_gelu(grad: Tensor, centred: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
    """The gradient [values, C] of the GELU's input."""
    result = torch.empty_like(grad)
    normalised = centred.new_empty(_step(centred), centred.shape[1])
    for piece in _pieces(centred):
        part = torch.addcmul(shift, centred[piece], factor, out=normalised[: len(centred[piece])])
        torch.ops.aten.gelu_backward(grad[piece], part, grad_input=result[piece])
    return result


def _native_backward(
    grad: Tensor, centred: Tensor, weight: Tensor, offset: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias where there is one rank.

    Both maps have channels last in memory: torch's kernel is ten times slower where they differ in layout.
    """
    exact = weight.to(scale.dtype)  # the kernel expects the statistics' type
    grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
        grad, _like(centred, grad), exact, None, None, -offset, scale, True, 0.0, [True, True, True]
    )
    return grad_x, grad_weight.to(weight.dtype), grad_bias.to(weight.dtype)


def world_size() -> int:
    """Number of ranks; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _of_all_ranks(mean: Tensor, variance: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [C], biased variance [C] and count [1] of the union, from those of this rank, in float64."""
    local = torch.cat([mean, variance, mean.new_full((1,), count)])
    gathered = [torch.empty_like(local) for _ in range(world_size())]
    dist.all_gather(gathered, local)
    ranks = torch.stack(gathered)  # [ranks, 2 C + 1]
    means, variances, counts = ranks[:, : len(mean)], ranks[:, len(mean) : -1], ranks[:, -1:]
    total = counts.sum(0)
    union = (counts * means).sum(0) / total
    return union, (counts * (variances + (means - union).square())).sum(0) / total, total


def _rows(x: Tensor) -> Tensor:
    """[B, C, ...] -> [values per channel, C]; a view if channels are last in memory."""
    return x.movedim(1, -1).reshape(-1, x.shape[1])


def _like(rows: Tensor, x: Tensor) -> Tensor:
    """The reverse of `_rows`, in the shape of x."""
    return rows.view(x.shape[0], *x.shape[2:], x.shape[1]).movedim(-1, 1)


def _total(parts: list[Tensor]) -> Tensor:
    """The sum of the sums of all pieces."""
    return parts[0] if len(parts) == 1 else torch.stack(parts).double().sum(0).to(parts[0].dtype)


def _step(rows: Tensor) -> int:
    return max(1, _CACHED // rows.shape[1]) if rows.device.type == "cpu" else len(rows)


def _pieces(rows: Tensor) -> Iterator[slice]:
    step = _step(rows)
    for start in range(0, len(rows), step):
        yield slice(start, start + step)
