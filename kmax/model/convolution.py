"""Convolutions of channels-last maps, arranged so that a CPU computes them fast.

Where torch's library for CPUs has no fast kernel, the same sums are formed in another order: the results are
those of `F.conv2d` up to rounding. On other devices and under torch.compile, `F.conv2d` is used.

- If a kernel is so dilated that most of its taps see only padding, as in atrous pooling on a coarse map, only
  the taps that see pixels are computed.
- The gradient of a 1x1 kernel with many channels is one matrix product.
- The gradient of a wide depthwise kernel is computed in blocks of three columns, which have a fast kernel.

Shapes: x [B, C_in, H, W], kernel [C_out, C_in / groups, h, w].
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

MANY_CHANNELS = 128  # from here on a matrix product is faster than the library's gradient of a 1x1 kernel
FAST_COLUMNS = 3  # widest depthwise kernel whose gradient the library computes fast


class Convolution(nn.Conv2d):
    """A convolution of torch that is computed by `convolve`."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, H, W] -> [B, C_out, H', W']."""
        return convolve(x, self.weight, self.bias, self)


def convolve(x: Tensor, kernel: Tensor, bias: Tensor | None, like: nn.Conv2d) -> Tensor:
    """Convolve x like `like`, with another kernel and bias of the same shapes: [B, C_out, H', W']."""
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        if _keeps_size(kernel, like) and _share_of_pixels(x, like) < 0.5:
            return _by_tap(x, kernel, bias, like)
        learns = torch.is_grad_enabled() and kernel.requires_grad and not torch.is_autocast_enabled("cpu")
        if learns and (_many_channels(kernel, like) or _wide_depthwise(x, kernel, like)):
            result: Tensor = _Convolution.apply(x, kernel, bias, like)
            return result
    return F.conv2d(x, kernel, bias, like.stride, like.padding, like.dilation, like.groups)


# ----------------------------------------------------------------------------------------- dilated kernels


def _keeps_size(kernel: Tensor, like: nn.Conv2d) -> bool:
    """Whether taps are placed evenly around each pixel, so that the result has the size of the input."""
    padding = tuple(d * (side // 2) for d, side in zip(like.dilation, kernel.shape[2:], strict=True))
    odd = kernel.shape[2] % 2 == kernel.shape[3] % 2 == 1
    return odd and like.groups == 1 and like.stride == (1, 1) and like.padding == padding


def _share_of_pixels(x: Tensor, like: nn.Conv2d) -> float:
    """The share of the products of kernel and map that read a pixel, not padding."""
    shares = []
    for length, side, dilation in zip(x.shape[2:], like.kernel_size, like.dilation, strict=True):
        offsets = [dilation * (tap - side // 2) for tap in range(side)]
        shares.append(sum(max(0, length - abs(offset)) for offset in offsets) / (side * length))
    return math.prod(shares)


def _by_tap(x: Tensor, kernel: Tensor, bias: Tensor | None, like: nn.Conv2d) -> Tensor:
    """The sum of the products of each tap with the pixels that it sees."""
    pixels = x.movedim(1, -1)  # [B, H, W, C_in]
    taps = [row.unbind(2) for row in kernel.unbind(2)]
    middle = len(taps) // 2, len(taps[0]) // 2
    result = F.linear(pixels, taps[middle[0]][middle[1]], bias)
    for i, row in enumerate(taps):
        for j, tap in enumerate(row):
            below, right = like.dilation[0] * (i - middle[0]), like.dilation[1] * (j - middle[1])
            (to_y, from_y), (to_x, from_x) = _overlap(below, x.shape[2]), _overlap(right, x.shape[3])
            seen = pixels[:, from_y, from_x]
            if (i, j) != middle and seen.numel():
                result[:, to_y, to_x] += F.linear(seen, tap)
    return result.movedim(-1, 1)


def _overlap(offset: int, length: int) -> tuple[slice, slice]:
    """Where a map and the same map moved by `offset` have pixels in common: in the one, in the other."""
    here = slice(max(0, -offset), max(0, length - max(0, offset)))
    return here, slice(here.start + offset, max(here.stop + offset, 0))


# ------------------------------------------------------------------------------------ gradients of kernels


def _many_channels(kernel: Tensor, like: nn.Conv2d) -> bool:
    """Whether the kernel is 1x1 with enough channels for a matrix product to give its gradient faster."""
    plain = like.groups == 1 and like.stride == (1, 1) and like.padding == (0, 0)
    return plain and kernel.shape[2:] == (1, 1) and min(kernel.shape[:2]) >= MANY_CHANNELS


def _wide_depthwise(x: Tensor, kernel: Tensor, like: nn.Conv2d) -> bool:
    """Whether the kernel is depthwise, too wide for the library, and not wider than the map."""
    plain = like.stride == (1, 1) and like.dilation == (1, 1) and not isinstance(like.padding, str)
    depthwise = like.groups == kernel.shape[0] > 1 and kernel.shape[1] == 1
    return plain and depthwise and FAST_COLUMNS < kernel.shape[3] <= x.shape[3]


class _Convolution(torch.autograd.Function):
    """`F.conv2d` with faster gradients of the kernel; apply to (x, kernel, bias, like)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, bias: Tensor | None, like: nn.Conv2d) -> Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.like = like
        return F.conv2d(x, kernel, bias, like.stride, like.padding, like.dilation, like.groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, kernel = ctx.saved_tensors
        like: nn.Conv2d = ctx.like
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_x = grad_kernel = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = _library_gradient(grad, x, kernel, like, _padding(like), of_kernel=False)
        if ctx.needs_input_grad[1]:
            of_kernel = _product if like.groups == 1 else _by_columns
            grad_kernel = of_kernel(grad, x, kernel, like)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum((0, 2, 3))
        return grad_x, grad_kernel, grad_bias, None


def _product(grad: Tensor, x: Tensor, kernel: Tensor, like: nn.Conv2d) -> Tensor:
    """The gradient of a 1x1 kernel: the product of the gradients and the pixels, summed over pixels."""
    of_pixels, pixels = (t.movedim(1, -1).reshape(-1, t.shape[1]) for t in (grad, x))
    return (of_pixels.t() @ pixels).view_as(kernel)


def _by_columns(grad: Tensor, x: Tensor, kernel: Tensor, like: nn.Conv2d) -> Tensor:
    """The gradient of a depthwise kernel, three columns at a time.

    For the columns from s on, the map is shifted by s through padding or cropping.
    """
    result, width, (high, wide) = torch.empty_like(kernel), kernel.shape[3], _padding(like)
    last = width - FAST_COLUMNS
    for start in sorted({*range(0, last, FAST_COLUMNS), last}):
        columns = slice(start, start + FAST_COLUMNS)
        moved = F.pad(x, (wide - start, start + FAST_COLUMNS - 1 - (width - 1 - wide)))
        part = kernel[..., columns].contiguous()
        result[..., columns] = _library_gradient(grad, moved, part, like, (high, 0), of_kernel=True)
    return result


def _library_gradient(
    grad: Tensor, x: Tensor, kernel: Tensor, like: nn.Conv2d, padding: tuple[int, int], of_kernel: bool
) -> Tensor:
    """The gradient of the kernel, or of x, by torch's library."""
    needed = [not of_kernel, of_kernel, False]
    settings = (like.stride, padding, like.dilation, False, (0, 0), like.groups, needed)
    gradients = torch.ops.aten.convolution_backward(grad, x, kernel, None, *settings)
    found: Tensor = gradients[int(of_kernel)]
    return found


def _padding(like: nn.Conv2d) -> tuple[int, int]:
    assert not isinstance(like.padding, str)
    return like.padding[0], like.padding[1]
