"""The colour policy of deeplab2's kMaX-DeepLab: one of five pairs of operations per image.

Magnitudes are 0..10. Times 0.2, as on Cityscapes, they do not get weaker: an enhancement's factor is
0.1 + 0.18 * magnitude, so that brightness goes from 1.9 to 0.46.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from kmax.data.augmentation import colour_operations
from kmax.data.augmentation.colour_operations import Bytes
from kmax.data.augmentation.recoloring import Recoloring
from kmax.data.geometry import Size


@dataclass(frozen=True)
class Operation:
    """One operation at one magnitude; `apply` takes the image and the number of pixels of all of it."""

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


FULL, SCALED = simple_classification_policy(), simple_classification_policy(0.2)


def draw_policy(rng: Generator, policy: Policy) -> Recoloring:
    """Draw a pair, and whether each of its steps happens."""
    return chosen(policy[int(rng.integers(len(policy)))], rng.random(2).tolist())


def chosen(steps: Sequence[Step], draws: Sequence[float]) -> Recoloring:
    """The steps whose number of 0..1 plus probability reaches 1."""
    operations = [step for (step, p), u in zip(steps, draws, strict=True) if np.floor(u + p) == 1]
    reaches = [operation.reach for operation in operations]
    reach = None if None in reaches else sum(reach for reach in reaches if reach is not None)

    def apply(pixels: NDArray[Any], size: Size) -> Bytes:
        image = pixels.astype(np.uint8, copy=False)
        for operation in operations:
            image = operation.apply(image, size[0] * size[1])
        return image

    return Recoloring(apply, reach, np.uint8)
