"""PNG files as arrays, decoded as fast as the machine allows, with damage told in one line.

libspng (through pyspng) takes half of Pillow's time. Where it is not installed, or for the rare kinds of PNG
that it would convert, Pillow decodes; the pixels are the same.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kmax.errors import InputError

try:
    import pyspng
except ImportError:
    pyspng = None

GREY, RGB, PALETTE, RGBA = 0, 2, 3, 6
# The size from which Pillow too refuses a picture as a decompression bomb.
MAX_PIXELS = 178_956_970
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class PngFile:
    """The checked bytes of a PNG file, not yet decoded; sizes in pixels.

    Attributes:
        color_type: as the PNG standard numbers it: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA.
    """

    path: Path
    data: bytes
    width: int
    height: int
    bit_depth: int
    color_type: int

    @property
    def sha256(self) -> str:
        """Hex digest of the file's bytes."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def size(self) -> str:
        """Width x height, for messages."""
        return f"{self.width}x{self.height}"


def open_png(path: Path, what: str) -> PngFile:
    """Read a PNG file and check its header and the checksums of its chunks.

    Args:
        what: names the file's role in errors.

    Raises:
        InputError: missing, not a PNG, truncated, damaged, or too large to decode.
    """
    try:
        with open(path, "rb", buffering=0) as stream:
            data = stream.read()
    except FileNotFoundError:
        raise InputError(f"{path}: {what} not found") from None
    except OSError as error:
        raise InputError(f"{path}: {what} cannot be read: {error.strerror}") from error
    if not data.startswith(_SIGNATURE):
        raise InputError(f"{path}: {what} is not a PNG file")
    fault = _damage(data)
    if fault:
        raise InputError(f"{path}: {what} cannot be read: {fault}")
    width, height, bit_depth, color_type = struct.unpack_from(">IIBB", data, 16)
    if not 0 < width * height <= MAX_PIXELS:
        raise InputError(f"{path}: {what} of {width}x{height} pixels is too large or empty")
    return PngFile(path, data, width, height, bit_depth, color_type)


def _damage(data: bytes) -> str | None:
    """What is wrong with the chunks of a PNG; None if nothing is."""
    view, position, kind = memoryview(data), len(_SIGNATURE), b""
    while kind != b"IEND":
        if position + 12 > len(data):
            return "truncated"
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            return "truncated"
        kind = data[position + 4 : position + 8]
        if position == len(_SIGNATURE) and (kind, length) != (b"IHDR", 13):
            return "no PNG header"
        if zlib.crc32(view[position + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return f"damaged (checksum of a chunk {kind.decode('ascii', 'replace')})"
        position = end + 4
    return None


def decode_rgb(png: PngFile) -> NDArray[np.uint8]:
    """Pixels of a panoptic PNG, uint8 [H, W, 3], whose ids are R + 256 G + 65536 B.

    An alpha channel is dropped, as panopticapi does.

    Raises:
        InputError: not an 8-bit RGB image, or damaged.
    """
    if png.color_type not in (RGB, RGBA) or png.bit_depth != 8:
        raise InputError(f"{png.path}: panoptic PNG is not 8-bit RGB; segment ids need three channels")
    return _decode(png, None if png.color_type == RGB else "RGB")


def decode_labels(png: PngFile, what: str) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Pixels of a one-channel PNG [H, W]: uint8, or uint16 from 16-bit files; of a palette the indices.

    Raises:
        InputError: an image of several channels, or of fewer than 8 bits, or damaged.
    """
    if png.color_type != PALETTE and (png.color_type != GREY or png.bit_depth < 8):
        raise InputError(f"{png.path}: {what} is not an 8-bit or 16-bit image of one channel")
    pixels = _decode(png, None if png.color_type == GREY else "P")
    return pixels if pixels.ndim == 2 else pixels[..., 0]  # 16-bit grey comes with an alpha channel


def decode_mask(png: PngFile) -> NDArray[np.bool_]:
    """Where an image of any kind is not black, bool [H, W] (its lightness, as Pillow converts it).

    Raises:
        InputError: damaged.
    """
    mask: NDArray[np.bool_]
    if png.color_type == GREY and png.bit_depth == 8:
        mask = _decode(png, None) != 0
    else:
        mask = _decode(png, "L") != 0
    return mask


def _decode(png: PngFile, mode: str | None) -> NDArray[Any]:
    """Pixels in Pillow's `mode`, or as they are stored."""
    try:
        if pyspng is not None and (mode is None or png.color_type == RGBA):
            return np.asarray(pyspng.load(png.data, format=mode))
        with Image.open(io.BytesIO(png.data)) as image:
            return np.asarray(image if mode in (None, "P") else image.convert(mode))
    except (OSError, SyntaxError, ValueError, EOFError, RuntimeError) as error:
        raise InputError(f"{png.path}: PNG cannot be decoded: {error}") from error
