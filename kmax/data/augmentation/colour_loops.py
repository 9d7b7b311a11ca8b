"""Colour operations that look at several bytes at once, as machine code; imported where it is called.

The order of float32 operations is deeplab2's, on which the last bit depends.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kmax.compiled import compiled
from kmax.data.geometry import FloatImage

SHARE, CENTRE = np.float32(1) / np.float32(13), np.float32(5) / np.float32(13)
ZERO, MOST = np.float32(0), np.float32(255)


@compiled
def _weighted(row: NDArray[np.uint8], share: FloatImage, centre: FloatImage) -> None:
    for place in range(len(row)):
        level = np.float32(row[place])
        share[place], centre[place] = level * SHARE, level * CENTRE


@compiled
def sharpen(image: NDArray[np.uint8], channels: int, factor: np.float32, result: NDArray[np.uint8]) -> None:
    """Away from (factor above 1) or towards a mean of 3 x 3 pixels, in which the middle counts five times.

    Args:
        image: [H, W x channels], of at least three rows and columns.
        factor: neither 0 nor 1.
        result: as `image`; written, but for the outermost pixels.
    """
    height, width = image.shape
    share, centre = np.empty((3, width), np.float32), np.empty((3, width), np.float32)
    for y in range(2):
        _weighted(image[y], share[y], centre[y])
    count = width - 2 * channels
    for y in range(1, height - 1):
        _weighted(image[y + 1], share[(y + 1) % 3], centre[(y + 1) % 3])
        above, here, below = share[(y - 1) % 3], share[y % 3], share[(y + 1) % 3]
        middle = centre[y % 3, channels:]
        above_1, above_2 = above[channels:], above[2 * channels :]
        here_2, below_1, below_2 = here[2 * channels :], below[channels:], below[2 * channels :]
        row, out = image[y, channels:], result[y, channels:]
        for x in range(count):
            mean = ZERO + above[x] + above_1[x] + above_2[x] + here[x] + middle[x] + here_2[x]
            mean = min(mean + below[x] + below_1[x] + below_2[x], MOST)
            start = np.float32(np.int32(mean))
            mixed = (np.float32(row[x]) - start) * factor + start
            out[x] = np.uint8(np.int32(min(max(mixed, ZERO), MOST)))
