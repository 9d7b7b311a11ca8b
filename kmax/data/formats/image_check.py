"""Checking an image file: whole, of the stated size, 8 bits, not turned."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from kmax.data.faults import Fault, Kind
from kmax.data.formats.png import PILLOW_FAULTS

_ORIENTATION = 0x0112  # the EXIF tag
_PNG, _BIT_DEPTH = b"\x89PNG\r\n\x1a\n", 24
_DEEP_MODES = ("I", "F")


def check_image(
    path: Path, stated: tuple[int, int] | None, faults: list[Fault]
) -> tuple[tuple[int, int], int, str] | None:
    """Read an image, and add what is wrong with it.

    Args:
        stated: (width, height) that its annotation says; None: nothing.

    Returns:
        (width, height) as stored, bytes, SHA-256; None where it cannot be read.
    """
    try:
        data = path.read_bytes()
        with PillowImage.open(io.BytesIO(data)) as image:
            size, mode = image.size, image.mode
            turned = image.getexif().get(_ORIENTATION, 1) not in (0, 1)
            image.draft("L", (1, 1))  # a JPEG is decoded to its end, yet most of the arithmetic is left out
            image.load()
    except FileNotFoundError:
        faults.append((Kind.MISSING, f"{path}: image not found"))
        return None
    except PILLOW_FAULTS as error:
        told = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
        faults.append((Kind.UNREADABLE, f"{path}: image cannot be read: {told}"))
        return None
    deep_png = data.startswith(_PNG) and data[_BIT_DEPTH] > 8
    if deep_png or mode.split(";")[0] in _DEEP_MODES:
        faults.append((Kind.DEPTH, f"{path}: image has more than 8 bits per channel; convert it to 8 bits"))
    if stated is not None and size != stated:
        told = f"image is {size[0]}x{size[1]}, the JSON says {stated[0]}x{stated[1]}"
        if turned and size == stated[::-1]:
            told += ", which is its size after the rotation in its EXIF; store it turned, without the tag"
        faults.append((Kind.SIZE, f"{path}: {told}"))
    elif turned:
        faults.append((Kind.ROTATED, f"{path}: EXIF tells viewers to turn it; it is read as it is stored"))
    return size, len(data), hashlib.sha256(data).hexdigest()
