"""Images as arrays of bytes: JPEGs decoded straight into them, and arrays as Pillow images and back.

Pillow keeps pixels in its own blocks, which must be copied to become an array. simplejpeg wraps the same
library (libjpeg-turbo, with its exact transform and smooth chroma upsampling), decodes to the same bits, and
writes an array. Arrays of four channels share their memory with the Pillow image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from kmax.data.formats.png import MAX_PIXELS

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

_SIGNATURE = b"\xff\xd8\xff"


def decode_jpeg_words(data: bytes) -> NDArray[np.uint8] | None:
    """Pixels uint8 [H, W, 4] of a JPEG in YCbCr or grey, the last channel unused.

    Returns:
        None if Pillow must decode: another file type or colour space, a corrupt file, too large an image, or
        simplejpeg is not installed.
    """
    if simplejpeg is None or not data.startswith(_SIGNATURE):
        return None
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
        if colors not in ("YCbCr", "Gray") or height * width > MAX_PIXELS:
            return None
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGBX")
    except ValueError:  # even slight corruption; Pillow continues if it can
        return None
    return pixels


def as_pillow(image: NDArray[np.uint8]) -> PillowImage.Image:
    """A Pillow image of [H, W, 3], or of [H, W, 4] with an unused last channel."""
    if image.shape[2] == 3:
        return PillowImage.fromarray(np.ascontiguousarray(image))
    size = (image.shape[1], image.shape[0])
    return PillowImage.frombuffer("RGBX", size, np.ascontiguousarray(image), "raw", "RGBX", 0, 1)


def as_array(image: PillowImage.Image) -> NDArray[np.uint8]:
    """The pixels [H, W, C] of a Pillow image; C is 4 for RGBX, else 3."""
    content = image.tobytes()
    return np.frombuffer(content, np.uint8).reshape(image.height, image.width, -1)
