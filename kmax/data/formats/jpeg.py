"""JPEGs decoded straight into words of four bytes per pixel, to the bit as Pillow decodes them.

Pillow has a picture in blocks of its own, which must be copied to become an array. simplejpeg wraps the same
library (libjpeg-turbo, with its exact transform and smooth chroma) and writes where it is told.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kmax.data.formats.png import MAX_PIXELS

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

_SIGNATURE = b"\xff\xd8\xff"


def decode_words(data: bytes) -> NDArray[np.uint8] | None:
    """Pixels uint8 [H, W, 4] of a JPEG in YCbCr or grey, the last channel without meaning.

    Returns:
        None where Pillow has to decide: another file or colour space, any damage, too large a picture, or
        simplejpeg is not installed.
    """
    if simplejpeg is None or not data.startswith(_SIGNATURE):
        return None
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
        if colors not in ("YCbCr", "Gray") or height * width > MAX_PIXELS:
            return None
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGBX")
    except ValueError:  # the slightest damage; Pillow reads on where it can
        return None
    return pixels
