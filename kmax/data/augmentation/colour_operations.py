"""The operations of AutoAugment on the bytes of an image, as deeplab2 computes them, to the bit.

Cubuk et al., AutoAugment: Learning Augmentation Policies from Data, CVPR 2019. All read and return uint8
[H, W, C] with C 3 or 4, red, green and blue first; a fourth channel is unused. Enhancements move away
from (factor above 1) or towards (below 1) a degenerate image: a smaller factor is not a weaker change.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kmax.data.formats.image_arrays import as_array, as_pillow

Bytes = NDArray[np.uint8]
Table = NDArray[np.uint8]  # [256]

LEVELS = np.arange(256, dtype=np.float32)
GREY_TABLES = [LEVELS * np.float32(1 / 255) * np.float32(weight) for weight in (0.2989, 0.5870, 0.1140)]


def brightness(image: Bytes, factor: float) -> Bytes:
    """Away from or towards black."""
    return _through(image, blend(np.zeros(256, np.uint8), np.arange(256, dtype=np.uint8), factor))


def contrast(image: Bytes, factor: float, pixels: int) -> Bytes:
    """Away from or towards a constant: not the mean grey, but `pixels` / 256, at most 255.

    Args:
        pixels: of the whole image, of which `image` may be a part.
    """
    constant = np.full(256, min(255, pixels // 256), np.uint8)
    return _through(image, blend(constant, np.arange(256, dtype=np.uint8), factor))


def color(image: Bytes, factor: float) -> Bytes:
    """Away from or towards grey."""
    return blend(np.broadcast_to(grey(image)[..., None], image.shape), image, factor)


def sharpness(image: Bytes, factor: float) -> Bytes:
    """Away from or towards a mean of 3 x 3 pixels; the outermost pixels stay."""
    height, width = image.shape[:2]
    if height < 3 or width < 3:
        return image
    if factor == 1:
        return image
    from kmax.data.augmentation.pixel_loops import sharpen  # here: numba takes half a second to import

    image = np.ascontiguousarray(image)
    result = image.copy()
    flat, flat_result = (pixels.reshape(height, -1) for pixels in (image, result))
    sharpen(flat, image.shape[2], np.float32(factor), flat_result)
    return result


def solarize(image: Bytes, threshold: int) -> Bytes:
    """Invert what is not below the threshold; 256 counts as 0."""
    levels = np.arange(256, dtype=np.uint8)
    table: Table = np.where(levels < np.uint8(threshold % 256), levels, np.uint8(255) - levels)
    return _through(image, table)


def equalize(image: Bytes) -> Bytes:
    """Spread the histogram of each channel."""
    return _by_channel(image, _equalizing)


def auto_contrast(image: Bytes) -> Bytes:
    """Stretch each channel to 0..255."""
    return _by_channel(image, _stretching)


def posterize(image: Bytes, bits: int) -> Bytes:
    """Keep the upper bits; 0 keeps one."""
    shift = np.uint8(min(8 - bits, 7))
    kept: Bytes = image >> shift << shift
    return kept


def invert(image: Bytes) -> Bytes:
    """The negative."""
    negative: Bytes = np.uint8(255) - image
    return negative


def grey(image: Bytes) -> Bytes:
    """Luma, uint8 [H, W]."""
    red, green, blue = (table[image[..., c]] for c, table in enumerate(GREY_TABLES))
    luma: Bytes = np.minimum((red + green + blue) * np.float32(255.5), 255).astype(np.uint8)
    return luma


def blend(degenerate: Bytes, image: Bytes, factor: float) -> Bytes:
    """degenerate + factor * (image - degenerate), truncated; clipped outside 0 < factor < 1."""
    if factor == 0:
        return degenerate
    if factor == 1:
        return image
    start = degenerate.astype(np.float32)
    mixed = image.astype(np.float32)
    mixed -= start
    mixed *= np.float32(factor)
    mixed += start
    if not 0 < factor < 1:
        np.clip(mixed, 0, 255, out=mixed)
    return mixed.astype(np.uint8)


def _by_channel(image: Bytes, table_of: Callable[[NDArray[np.int64]], Table]) -> Bytes:
    """Each of the first three channels through the table for its histogram [256]."""
    picture = as_pillow(image)
    histograms = np.array(picture.histogram()).reshape(-1, 256)
    return _through(image, *(table_of(histogram) for histogram in histograms[:3]))


def _through(image: Bytes, *tables: Table) -> Bytes:
    """Each channel through its table; one table serves all channels."""
    of_channels = tables if len(tables) == 3 else tables * 3
    levels = np.concatenate([*of_channels, LEVELS.astype(np.uint8)][: image.shape[2]])
    return as_array(as_pillow(image).point(levels.tolist()))


def _equalizing(histogram: NDArray[np.int64]) -> Table:
    highest = np.flatnonzero(histogram)[-1]
    step = int(histogram.sum() - histogram[highest]) // 255
    if step == 0:
        return np.arange(256, dtype=np.uint8)
    spread = (np.cumsum(histogram) + step // 2) // step
    table: Table = np.clip(np.concatenate([[0], spread[:-1]]), 0, 255).astype(np.uint8)
    return table


def _stretching(histogram: NDArray[np.int64]) -> Table:
    present = np.flatnonzero(histogram)
    low, high = np.float32(present[0]), np.float32(present[-1])
    if high <= low:
        return np.arange(256, dtype=np.uint8)
    scale = np.float32(255) / (high - low)
    table: Table = np.clip(LEVELS * scale - low * scale, 0, 255).astype(np.uint8)
    return table
