"""The colour distortion of bytedance's kMaX-DeepLab (SSD: Liu et al., ECCV 2016).

Brightness, contrast, saturation and hue, each with probability 1/2; contrast comes before or after the last
two. Hue and saturation move in Pillow's HSV (256 hues) instead of OpenCV's (180), so they are equal to the
original's up to that rounding.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image as PillowImage

from kmax.data.augmentation.colour_operations import LEVELS, Bytes
from kmax.data.augmentation.recoloring import Recoloring
from kmax.data.geometry import Size

BRIGHTNESS, CONTRAST, SATURATION, HUE = 32.0, (0.5, 1.5), (0.5, 1.5), 18  # hue in steps of 2 degrees


def draw_ssd(rng: Generator) -> Recoloring:
    """Draw which changes happen, how far they go, and when contrast has its turn."""
    amounts = {
        "brightness": functools.partial(linear, factor=1.0, shift=rng.uniform(-BRIGHTNESS, BRIGHTNESS)),
        "contrast": functools.partial(linear, factor=rng.uniform(*CONTRAST), shift=0.0),
        "saturation": functools.partial(saturate, factor=rng.uniform(*SATURATION)),
        "hue": functools.partial(turn_hue, steps=int(rng.integers(-HUE, HUE + 1))),
    }
    happens = dict(zip(amounts, rng.random(4) < 0.5, strict=True))
    early = ["brightness", "contrast", "saturation", "hue"]
    late = ["brightness", "saturation", "hue", "contrast"]
    steps = [amounts[name] for name in (early if rng.random() < 0.5 else late) if happens[name]]

    def apply(pixels: NDArray[Any], size: Size) -> Bytes:
        image = pixels.astype(np.uint8, copy=False)[..., :3]
        for step in steps:
            image = step(image)
        return image

    return Recoloring(apply, reach=0, kind=np.uint8)


def linear(image: Bytes, factor: float, shift: float) -> Bytes:
    """Levels times a factor plus a shift, clipped and truncated."""
    table: Bytes = np.clip(LEVELS * np.float32(factor) + np.float32(shift), 0, 255).astype(np.uint8)
    return table[image]


def saturate(image: Bytes, factor: float) -> Bytes:
    """Saturation times a factor."""
    table = np.clip(LEVELS * np.float32(factor), 0, 255).astype(np.uint8)
    return _in_hsv(image, 1, table)


def turn_hue(image: Bytes, steps: int) -> Bytes:
    """Hue turned by `steps` times 2 degrees."""
    return _in_hsv(image, 0, ((np.arange(256) + round(steps * 256 / 180)) % 256).astype(np.uint8))


def _in_hsv(image: Bytes, channel: int, table: Bytes) -> Bytes:
    tables = np.tile(np.arange(256, dtype=np.uint8), (3, 1))
    tables[channel] = table
    hsv = PillowImage.fromarray(np.ascontiguousarray(image)).convert("HSV")
    return np.asarray(hsv.point(tables.ravel().tolist()).convert("RGB"))
