"""Changes of an image's colours, with all random numbers drawn: deeplab2's, bytedance's, and plain jitter.

deeplab2 applies one of five pairs of AutoAugment operations per image. Magnitudes are 0..10. Multiplied by
0.2, as on Cityscapes, they do not get weaker: an enhancement's factor is 0.1 + 0.18 * magnitude, so that the
factor of brightness goes from 1.9 to 0.46.

bytedance applies the colour distortion of SSD (Liu et al., ECCV 2016): brightness, contrast, saturation and
hue, each with probability 1/2; contrast comes before or after the last two. Hue and saturation are changed in
Pillow's HSV (256 hues) instead of OpenCV's (180), so they equal the original's up to that rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image as PillowImage

from kmax.config import Augmentation
from kmax.data.augmentation import colour_operations
from kmax.data.augmentation.colour_operations import LEVELS, Bytes
from kmax.data.geometry import FloatImage, Size

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
BRIGHTNESS, CONTRAST, SATURATION, HUE = 32.0, (0.5, 1.5), (0.5, 1.5), 18  # of SSD; hue in steps of 2 degrees


@dataclass(frozen=True)
class ColorTransform:
    """A change of colours with all random numbers drawn.

    Attributes:
        apply: from pixels [H, W, 3] in 0..255, which may be a part of an image, and the size of the whole
            image, to the changed pixels.
        reach: how many pixels around a pixel its result depends on; None: on the whole image.
        dtype: np.uint8 where pixels are truncated to bytes first, else np.float32.
    """

    apply: Callable[[NDArray[Any], Size], NDArray[Any]]
    reach: int | None
    dtype: type[np.uint8] | type[np.float32]


def draw_color_transform(rng: Generator, augmentation: Augmentation) -> ColorTransform | None:
    """Draw the change of colours configured in the run; None: no change."""
    match augmentation.color_policy:
        case "simple_classification_policy":
            return draw_policy(rng, FULL_POLICY)
        case "simple_classification_policy_magnitude_scale_0.2":
            return draw_policy(rng, SCALED_POLICY)
        case "ssd":
            return draw_ssd(rng)
    strength = augmentation.color_jitter
    return draw_jitter(rng, strength) if strength > 0 else None


# ------------------------------------------------------------------------------------------------ AutoAugment


@dataclass(frozen=True)
class Operation:
    """One operation at one magnitude; `apply` takes the image and the number of pixels of the whole image."""

    apply: Callable[[Bytes, int], Bytes]
    reach: int | None = 0


Step = tuple[Operation, float]  # with its probability
Policy = tuple[tuple[Step, Step], ...]


def enhancement_factor(magnitude: float) -> float:
    """The factor of an enhancement; 1 at magnitude 5."""
    return 0.1 + 1.8 * magnitude / 10


def solarize_threshold(magnitude: float) -> int:
    """The first level to be inverted."""
    return int(256 * magnitude / 10)


def simple_classification_policy(scale: float = 1.0) -> Policy:
    """The five pairs, with their magnitudes times `scale`."""

    def enhance(change: Callable[[Bytes, float], Bytes], magnitude: float, reach: int = 0) -> Operation:
        factor = enhancement_factor(scale * magnitude)
        return Operation(lambda image, pixels: change(image, factor), reach)

    def sharpness(magnitude: float) -> Operation:
        return enhance(colour_operations.sharpness, magnitude, reach=1)

    factor, threshold = enhancement_factor(scale * 10), solarize_threshold(scale * 7)
    contrast = Operation(lambda image, pixels: colour_operations.contrast(image, factor, pixels))
    solarize = Operation(lambda image, pixels: colour_operations.solarize(image, threshold))
    equalize = Operation(lambda image, pixels: colour_operations.equalize(image), reach=None)
    return (
        ((sharpness(7), 0.4), (enhance(colour_operations.brightness, 10), 0.2)),
        ((equalize, 0.0), (contrast, 0.2)),
        ((sharpness(9), 0.2), (enhance(colour_operations.color, 9), 0.2)),
        ((solarize, 0.2), (equalize, 0.6)),
        ((sharpness(1), 0.2), (equalize, 0.2)),
    )


FULL_POLICY, SCALED_POLICY = simple_classification_policy(), simple_classification_policy(0.2)


def draw_policy(rng: Generator, policy: Policy) -> ColorTransform:
    """Draw a pair, and whether each of its steps happens."""
    return select_steps(policy[int(rng.integers(len(policy)))], rng.random(2).tolist())


def select_steps(steps: Sequence[Step], draws: Sequence[float]) -> ColorTransform:
    """The steps whose draw of 0..1 plus probability reaches 1."""
    operations = [step for (step, p), u in zip(steps, draws, strict=True) if np.floor(u + p) == 1]
    reaches = [operation.reach for operation in operations]
    reach = None if None in reaches else sum(reach for reach in reaches if reach is not None)

    def apply(pixels: NDArray[Any], size: Size) -> Bytes:
        image = pixels.astype(np.uint8, copy=False)
        for operation in operations:
            image = operation.apply(image, size[0] * size[1])
        return image

    return ColorTransform(apply, reach, np.uint8)


# -------------------------------------------------------------------------------------------------------- SSD


def draw_ssd(rng: Generator) -> ColorTransform:
    """Draw which changes happen, their strength, and when contrast is changed."""
    amounts = {
        "brightness": functools.partial(linear, factor=1.0, shift=rng.uniform(-BRIGHTNESS, BRIGHTNESS)),
        "contrast": functools.partial(linear, factor=rng.uniform(*CONTRAST), shift=0.0),
        "saturation": functools.partial(saturate, factor=rng.uniform(*SATURATION)),
        "hue": functools.partial(shift_hue, steps=int(rng.integers(-HUE, HUE + 1))),
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

    return ColorTransform(apply, reach=0, dtype=np.uint8)


def linear(image: Bytes, factor: float, shift: float) -> Bytes:
    """Levels times a factor plus a shift, clipped and truncated."""
    table: Bytes = np.clip(LEVELS * np.float32(factor) + np.float32(shift), 0, 255).astype(np.uint8)
    return table[image]


def saturate(image: Bytes, factor: float) -> Bytes:
    """Saturation times a factor."""
    table = np.clip(LEVELS * np.float32(factor), 0, 255).astype(np.uint8)
    return _in_hsv(image, 1, table)


def shift_hue(image: Bytes, steps: int) -> Bytes:
    """Hue shifted by `steps` times 2 degrees."""
    return _in_hsv(image, 0, ((np.arange(256) + round(steps * 256 / 180)) % 256).astype(np.uint8))


def _in_hsv(image: Bytes, channel: int, table: Bytes) -> Bytes:
    tables = np.tile(np.arange(256, dtype=np.uint8), (3, 1))
    tables[channel] = table
    hsv = PillowImage.fromarray(np.ascontiguousarray(image)).convert("HSV")
    return np.asarray(hsv.point(tables.ravel().tolist()).convert("RGB"))


# ----------------------------------------------------------------------------------------------------- jitter


def draw_jitter(rng: Generator, strength: float) -> ColorTransform:
    """Change brightness, contrast and saturation, each by a factor within 1 - strength .. 1 + strength."""
    factors = rng.uniform(1 - strength, 1 + strength, 3).astype(np.float32)
    return ColorTransform(lambda pixels, size: jitter(pixels, factors), reach=None, dtype=np.float32)


def jitter(pixels: FloatImage, factors: FloatImage) -> FloatImage:
    """Brightness, contrast and saturation times `factors` [3]; contrast is relative to the mean grey."""
    brightness, contrast, saturation = factors
    pixels = pixels * brightness
    grey = (pixels @ LUMA)[..., None]
    pixels = grey + saturation * (pixels - grey)
    mean = grey.mean(dtype=np.float64).astype(np.float32)
    jittered: FloatImage = np.clip(mean + contrast * (pixels - mean), 0, 255)
    return jittered
