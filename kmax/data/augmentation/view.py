"""An image at input size, with what its segments are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kmax.data.geometry import FloatImage, Size
from kmax.data.source import Labels

MEAN = np.float32(127.5)
PADDING_OWNER = -1


@dataclass(frozen=True)
class View:
    """An image at input size.

    Attributes:
        pixels: float32 [H, W, 3] in 0..255; padding is 127.5. Channels lie apart in memory, as the network
            reads them.
        owner: int32 [H, W]: -1 padding, 0 void, else 1 + the index in `labels`.
        labels: what the segments are.
        content_size: height and width of the part that is image.
    """

    pixels: FloatImage
    owner: NDArray[np.int32]
    labels: Labels
    content_size: Size


def normalize(pixels: FloatImage) -> FloatImage:
    """Pixels [H, W, 3] of 0..255 as network input [3, H, W] of -1..1."""
    return np.ascontiguousarray(((pixels - MEAN) / MEAN).transpose(2, 0, 1))
