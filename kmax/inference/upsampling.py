"""The softmax over clusters at full size, in bands of rows that stay in the processor's cache.

Upsampled logits of 128 clusters at 1281 pixels are 840 MB; computed as a whole, they pass through memory many
times. Bilinear interpolation is linear along each axis: the logits are widened first, and each band of rows
is then one small matrix product.

Legend of shapes: N clusters, h w pixels of the mask logits, H W enlarged pixels, R rows of a band.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Size2 = tuple[int, int]
# Elements of a band: on a CPU as many as fit the cache, on a GPU enough to fill the device.
CPU_BAND_ELEMENTS, GPU_BAND_ELEMENTS = 2**19, 2**26
WIDENED_ELEMENTS = 2**28  # beyond it, logits are widened band by band: 1 GB
SMALLEST_TOTAL = 1e-20  # below it, exponentials may have vanished
# Negligible in such a total, and not yet denormal: exponentials of smaller numbers are many times slower.
SMALLEST_EXPONENT = -80.0


@dataclass(frozen=True)
class ImageSizes:
    """Sizes (height, width) of an image and of its network input.

    Attributes:
        input: of the network input.
        content: of the top left part of the input that is image; the rest is padding.
        original: of the image file.
    """

    input: Size2
    content: Size2
    original: Size2


@dataclass(frozen=True)
class Band:
    """Some rows of the enlarged masks, before the division by the sum.

    Attributes:
        rows: which rows of the enlarged map.
        weights: float32 [R, N, W], proportional to the softmax over N.
        total: float32 [R, W], their sum over N: the softmax is weights / total.
    """

    rows: slice
    weights: Tensor
    total: Tensor


class Upsampling:
    """Mask logits to logits of another size: one or more bilinear steps, with crops.

    Args:
        native: (h, w) of the logits.
        steps: (size, crop, align_corners) of each step: resize to `size`, keep its top left part `crop`.
    """

    def __init__(self, native: Size2, steps: list[tuple[Size2, Size2, bool]]) -> None:
        self.native = native
        self.steps = steps
        self.size: Size2 = steps[-1][1]

    def __call__(self, logits: Tensor) -> Tensor:
        """All of it at once: [N, h, w] to [N, H, W]."""
        for size, crop, align_corners in self.steps:
            logits = F.interpolate(logits[None], size, mode="bilinear", align_corners=align_corners)[0]
            logits = logits[:, : crop[0], : crop[1]]
        return logits

    def bands(self, logits: Tensor) -> Iterator[Band]:
        """The softmax over clusters of the enlarged logits [N, h, w], from top to bottom."""
        clusters, (height, width) = len(logits), self.size
        # A softmax does not change when each pixel is shifted. The interpolated largest logit is not below
        # the largest interpolated one: shifted by it, no exponential overflows.
        shifted = (logits - logits.amax(0)).transpose(0, 1).contiguous()  # [h, N, w]
        is_large = len(shifted) * clusters * width > WIDENED_ELEMENTS
        if not is_large:
            shifted = self._along(1, shifted)  # [h, N, W]
        matrix = self._along(0, torch.eye(self.native[0])[None])[0].T.contiguous()  # [H, h]
        weighs = matrix.numpy() != 0
        first, last = weighs.argmax(1), weighs.shape[1] - 1 - weighs[:, ::-1].argmax(1)
        matrix = matrix.to(logits.device)
        budget = CPU_BAND_ELEMENTS if logits.device.type == "cpu" else GPU_BAND_ELEMENTS
        rows = max(1, budget // (clusters * width))
        for start in range(0, height, rows):
            end = min(start + rows, height)
            read = slice(first[start], last[end - 1] + 1)  # rows ascend
            source = (self._along(1, shifted[read]) if is_large else shifted[read]).flatten(1)
            weights = (matrix[start:end, read] @ source).view(-1, clusters, width)
            total = weights.clamp_(min=SMALLEST_EXPONENT).exp_().sum(1)
            if float(total.min()) < SMALLEST_TOTAL:
                weights = (matrix[start:end, read] @ source).view(-1, clusters, width)
                weights -= weights.amax(1, keepdim=True)
                total = weights.clamp_(min=SMALLEST_EXPONENT).exp_().sum(1)
            yield Band(slice(start, end), weights, total)

    def _along(self, axis: int, values: Tensor) -> Tensor:
        """All steps along one axis of the image, which is the last one of [x, y, length]."""
        for size, crop, align_corners in self.steps:
            values = F.interpolate(values, size[axis], mode="linear", align_corners=align_corners)
            values = values[:, :, : crop[axis]]
        return values.contiguous()


def to_input(native: Size2, input_size: Size2) -> Upsampling:
    """To the size of the network input, corners aligned."""
    return Upsampling(native, [(input_size, input_size, True)])


def to_image(native: Size2, sizes: ImageSizes) -> Upsampling:
    """To the network input, and without its padding to the image; corners aligned where the width is odd."""
    align_corners = sizes.input[1] % 2 == 1
    content = (min(sizes.content[0], sizes.input[0]), min(sizes.content[1], sizes.input[1]))
    return Upsampling(
        native, [(sizes.input, content, align_corners), (sizes.original, sizes.original, align_corners)]
    )
