"""Arrays of bytes as pictures of Pillow, and back; four channels share their memory with the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage


def as_picture(image: NDArray[np.uint8]) -> PillowImage.Image:
    """A picture of [H, W, 3], or of [H, W, 4] with a last channel that means nothing."""
    if image.shape[2] == 3:
        return PillowImage.fromarray(np.ascontiguousarray(image))
    size = (image.shape[1], image.shape[0])
    return PillowImage.frombuffer("RGBX", size, np.ascontiguousarray(image), "raw", "RGBX", 0, 1)


def as_array(picture: PillowImage.Image) -> NDArray[np.uint8]:
    """The pixels [H, W, C] of a picture; C is 4 for RGBX, else 3."""
    content = picture.tobytes()
    return np.frombuffer(content, np.uint8).reshape(picture.height, picture.width, -1)
