"""A change of colours with all its random numbers drawn, and the plain jitter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from kmax.data.geometry import FloatImage, Size

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Recoloring:
    """A change of colours, drawn.

    Attributes:
        apply: from pixels [H, W, 3] in 0..255, which may be a part of an image, and the size of all of it,
            to the pixels recoloured.
        reach: how far around a pixel its result depends on; None: on all of the image.
        kind: np.uint8 where pixels are truncated to bytes first, else np.float32.
    """

    apply: Callable[[NDArray[Any], Size], NDArray[Any]]
    reach: int | None
    kind: type[np.uint8] | type[np.float32]


def draw_jitter(rng: Generator, strength: float) -> Recoloring:
    """Change brightness, contrast and saturation, each by a factor within 1 - strength .. 1 + strength."""
    factors = rng.uniform(1 - strength, 1 + strength, 3).astype(np.float32)
    return Recoloring(lambda pixels, size: jitter(pixels, factors), reach=None, kind=np.float32)


def jitter(pixels: FloatImage, factors: FloatImage) -> FloatImage:
    """Brightness, contrast and saturation times `factors` [3]; contrast turns around the mean grey."""
    brightness, contrast, saturation = factors
    pixels = pixels * brightness
    grey = (pixels @ LUMA)[..., None]
    pixels = grey + saturation * (pixels - grey)
    mean = grey.mean(dtype=np.float64).astype(np.float32)
    jittered: FloatImage = np.clip(mean + contrast * (pixels - mean), 0, 255)
    return jittered
