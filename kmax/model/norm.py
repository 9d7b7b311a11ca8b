"""Normalisation layers: batch norm whose statistics are shared between ranks, and layer norm over channels.

Torch's own synchronised batch norm needs CUDA; this one runs on CPU (gloo) and CUDA (nccl) alike.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kmax.model.activation import Activation, activate_new
from kmax.model.batch_statistics import NormaliseByBatch, world_size
from kmax.model.convolution import convolve

EPSILON = 1e-3  # of both originals
MOMENTUM = 0.01


class BatchNorm(nn.Module):
    """Batch norm over dimension 1 of [B, C, ...], with statistics over the images of all ranks.

    In training mode, with torch.distributed initialised and more than one rank, mean and variance are those
    of the union of all ranks' inputs, which may differ in size; none is empty. Every rank must then call its
    layers in the same order. Gradients of inputs are those of the union too; gradients of weight and bias are
    this rank's share (data-parallel training adds or averages them over ranks).

    Args:
        channels: C.
        biased_moving_variance: the moving variance takes the batch variance over n (True) or n - 1 (False).
            Normalisation itself always divides by n. See `ModelFlavour`.
        eps: added to the variance.
        momentum: share of the new batch in the moving statistics.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        channels: int,
        biased_moving_variance: bool = False,
        eps: float = EPSILON,
        momentum: float = MOMENTUM,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.biased_moving_variance = biased_moving_variance
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor, activation: Activation | None = None) -> Tensor:
        """Normalise x [B, C, ...], and activate the result on request; it has the shape of x."""
        if self.training and (world_size() > 1 or _summed_naively(x)):
            gelu = activation == "gelu"  # which is fused with the norm
            out, mean, variance, count = cast(
                tuple[Tensor, Tensor, Tensor, Tensor],
                NormaliseByBatch.apply(x, self.weight, self.bias, self.eps, gelu),
            )
            self._move(mean, variance, count)
            return out if gelu else activate_new(out, activation)
        return activate_new(self._by_torch(x), activation)

    def _by_torch(self, x: Tensor) -> Tensor:
        """Normalise x [B, C, ...] by torch's own kernels."""
        if not self.training:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
            )
        # The functional form rejects a single value per channel (pooled features of one image) and moves the
        # variance over n - 1 only, so statistics are taken from the operator itself.
        out, mean, inverse_std = torch.native_batch_norm(
            x, self.weight, self.bias, None, None, True, self.momentum, self.eps
        )
        with torch.no_grad():
            variance = inverse_std.square().reciprocal_().sub_(self.eps).clamp_(min=0.0)
            self._move(mean, variance, x.numel() // self.channels)
        return out

    def after(self, convolution: nn.Conv2d, x: Tensor, activation: Activation | None = None) -> Tensor:
        """The norm of a convolution's result, activated on request: [B, C_in, H, W] -> [B, C, H', W'].

        In evaluation the norm is a scale and a shift, folded into the convolution: its kernel is scaled again
        at each call, which costs less than a pass over the result unless that is smaller.
        The convolution itself is not called, only its parameters are read, so its hooks do not run.
        """
        if self.training or not self._folds_into(convolution, x):
            result: Tensor = self(convolve(x, convolution.weight, convolution.bias, convolution), activation)
            return result
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        shift = self.bias - self.running_mean * scale
        if convolution.bias is not None:
            shift = shift + convolution.bias * scale
        out = convolve(x, convolution.weight * scale.view(-1, 1, 1, 1), shift, convolution)
        return activate_new(out, activation)

    @staticmethod
    def _folds_into(convolution: nn.Conv2d, x: Tensor) -> bool:
        """Whether the kernel has fewer elements than the result."""
        pixels = x.shape[0] * x.shape[2] * x.shape[3] // (convolution.stride[0] * convolution.stride[1])
        return convolution.weight.numel() < pixels * convolution.out_channels

    @torch.no_grad()
    def _move(self, mean: Tensor, variance: Tensor, count: int | Tensor) -> None:
        """Update the moving statistics by the batch's mean and biased variance of `count` values."""
        if not self.biased_moving_variance:
            fewer = count - 1
            fewer = fewer.clamp(min=1) if isinstance(fewer, Tensor) else max(fewer, 1)
            variance = variance * (count / fewer)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)

    def extra_repr(self) -> str:
        """Channels and constants, for printing."""
        return f"{self.channels}, eps={self.eps}, momentum={self.momentum}"


def _summed_naively(x: Tensor) -> bool:
    """Whether torch's own kernel would add up x value by value: channels last in memory, on a CPU."""
    return (
        x.device.type == "cpu"
        and x.dim() == 4
        and x.is_contiguous(memory_format=torch.channels_last)
        and not torch.compiler.is_compiling()
    )


class ChannelLayerNorm(nn.Module):
    """Layer norm over the channels of each pixel of [B, C, H, W], with eps 1e-6."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [B, C, H, W]."""
        x = F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), self.weight, self.bias, eps=1e-6)
        return x.permute(0, 3, 1, 2)
