"""PNG files as arrays, with fast decoders where they are installed; corrupt files give a one-line error.

Decoding a label map is mostly inflating. libdeflate does that three times faster than zlib, and libspng
(through pyspng) decodes the same image repacked without compression. If either is not installed, and for rare
kinds of PNG, Pillow decodes; the pixels are the same.
"""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kmax.errors import InputError

try:
    import deflate
    import pyspng
except ImportError:
    deflate = pyspng = None

_UP = 2  # filter: the difference to the line above
_COMPRESSION = 6
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
# The size from which Pillow also rejects an image as a decompression bomb.
MAX_PIXELS = 178_956_970
# Pillow warns of images that are half as large, with a line of its source code.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Those of the standard. The sizes of buffers follow from the header, so every other combination is rejected.
BIT_DEPTHS = {
    GREY: (1, 2, 4, 8, 16),
    RGB: (8, 16),
    PALETTE: (1, 2, 4, 8),
    GREY_ALPHA: (8, 16),
    RGBA: (8, 16),
}
_crc32 = zlib.crc32 if deflate is None else deflate.crc32


@dataclass(frozen=True)
class PngFile:
    """The checked bytes of a PNG file, not yet decoded; sizes in pixels.

    Attributes:
        what: its role, for messages.
        color_type: as the PNG standard numbers it: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA.
        interlaced: whether the pixels come in several passes.
        compressed: the image data of all chunks together.
    """

    path: Path
    what: str
    data: bytes
    width: int
    height: int
    bit_depth: int
    color_type: int
    interlaced: bool
    compressed: bytes

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
        InputError: missing, not a PNG, truncated, corrupt, or too large to decode.
    """
    try:
        with open(path, "rb", buffering=0) as stream:
            data = stream.read()
    except FileNotFoundError:
        raise InputError(f"{path}: {what} not found") from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise InputError(f"{path!s:.200}: {what} cannot be read: {error}") from error
    if not data.startswith(SIGNATURE):
        raise InputError(f"{path}: {what} is not a PNG file")
    fault, parts = _chunks(data)
    if fault:
        raise InputError(f"{path}: {what} cannot be read: {fault}")
    header = struct.unpack_from(">IIBBBBB", data, 16)
    width, height, bit_depth, color_type, compression, filtering, interlaced = header
    if not 0 < width * height <= MAX_PIXELS:
        raise InputError(f"{path}: {what} of {width}x{height} pixels is too large or empty")
    if bit_depth not in BIT_DEPTHS.get(color_type, ()) or (compression, filtering) != (0, 0):
        raise InputError(f"{path}: {what} cannot be read: invalid PNG header")
    compressed = parts[0] if len(parts) == 1 else b"".join(parts)
    return PngFile(path, what, data, width, height, bit_depth, color_type, interlaced != 0, compressed)


def _chunks(data: bytes) -> tuple[str | None, list[bytes]]:
    """The fault of the chunks of a PNG, None if there is none; and the contents of the IDAT chunks."""
    view, position, kind, parts = memoryview(data), len(SIGNATURE), b"", []
    while kind != b"IEND":
        if position + 12 > len(data):
            return "truncated", []
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            return "truncated", []
        kind = data[position + 4 : position + 8]
        if (position == len(SIGNATURE)) != (kind == b"IHDR") or (kind == b"IHDR" and length != 13):
            return "no PNG header, or a second one", []
        if _crc32(view[position + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return f"corrupt (checksum of a chunk {kind.decode('ascii', 'replace')})", []
        if kind == b"IDAT":
            parts.append(data[position + 8 : end])
        position = end + 4
    return None, parts


def require_colours(png: PngFile) -> None:
    """Reject images that cannot encode segment ids.

    Raises:
        InputError: not an 8-bit RGB image, with or without alpha.
    """
    if png.color_type not in (RGB, RGBA) or png.bit_depth != 8:
        raise InputError(f"{png.path}: {png.what} is not 8-bit RGB; segment ids need three channels")


def decode_rgb(png: PngFile) -> NDArray[np.uint8]:
    """Pixels of a panoptic PNG, uint8 [H, W, 3], whose ids are R + 256 G + 65536 B.

    An alpha channel is dropped, as panopticapi does.

    Raises:
        InputError: not an 8-bit RGB image, or corrupt.
    """
    require_colours(png)
    return _decode(png, None if png.color_type == RGB else "RGB")


def decode_ids(png: PngFile) -> NDArray[np.int32]:
    """Segment ids of a panoptic PNG, int32 [H, W]: R + 256 G + 65536 B.

    Raises:
        InputError: not an 8-bit RGB image, or corrupt.
    """
    if png.color_type != RGB or png.bit_depth != 8:
        raise InputError(f"{png.path}: {png.what} is not 8-bit RGB; segment ids need three channels")
    lines = filtered_lines(png)
    if lines is None:
        ids: NDArray[np.int32] = _decode(png, "RGBA").view("<i4")[..., 0] & 0xFFFFFF
        return ids
    from kmax.data.formats.png_loops import colour_ids  # here: numba takes half a second to import

    ids = np.empty((png.height, png.width), np.int32)
    colour_ids(lines, ids)
    return ids


def decode_labels(png: PngFile) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Pixels of a one-channel PNG [H, W]: uint8, or uint16 from 16-bit files; of a palette the indices.

    Raises:
        InputError: an image of several channels, or of fewer than 8 bits, or corrupt.
    """
    if png.color_type != PALETTE and (png.color_type != GREY or png.bit_depth < 8):
        raise InputError(f"{png.path}: {png.what} is not an 8-bit or 16-bit image of one channel")
    lines = filtered_lines(png)
    if lines is None:
        return _decode(png, "P")
    from kmax.data.formats.png_loops import grey_pixels  # here: numba takes half a second to import

    pixels = np.empty((png.height, png.width), np.uint8 if png.bit_depth == 8 else np.uint16)
    grey_pixels(lines, pixels)
    return pixels


def decode_mask(png: PngFile) -> NDArray[np.bool_]:
    """Where an image of any kind is not black, bool [H, W] (its lightness, as Pillow converts it).

    Raises:
        InputError: corrupt.
    """
    mask: NDArray[np.bool_] = _decode(png, "L") != 0
    return mask


def _decode(png: PngFile, mode: str | None) -> NDArray[Any]:
    """Pixels in Pillow's `mode`; None: as they are stored."""
    if mode is None:
        lines = filtered_lines(png)
        if lines is not None:
            return _unfilter(png, lines)
    try:
        with Image.open(io.BytesIO(png.data)) as image:
            return np.asarray(image if mode in (None, "P") else image.convert(mode))
    except Exception as error:  # Pillow raises many kinds
        raise InputError(f"{png.path}: {png.what} cannot be decoded: {error}") from error


def filtered_lines(png: PngFile) -> NDArray[np.uint8] | None:
    """Filter and filtered bytes of each line [H, 1 + W x bytes], of grey or RGB without alpha.

    Returns:
        None for other kinds, which Pillow has to decode.

    Raises:
        InputError: the data are corrupt, or not as long as the header says.
    """
    channels = {GREY: 1, RGB: 3}.get(png.color_type, 0)
    if deflate is None or png.interlaced or not channels or png.bit_depth < 8:
        return None
    line = 1 + png.width * channels * png.bit_depth // 8
    try:
        data = deflate.zlib_decompress(png.compressed, png.height * line)
    except (deflate.DeflateError, ValueError) as error:
        raise InputError(f"{png.path}: {png.what} cannot be decoded: {error}") from error
    if len(data) != png.height * line:
        raise InputError(f"{png.path}: {png.what} cannot be decoded: its data are {len(data)} bytes long")
    lines = np.frombuffer(data, np.uint8).reshape(png.height, line)
    if lines[:, 0].max() > 4:
        raise InputError(f"{png.path}: {png.what} cannot be decoded: unknown line filter {lines[:, 0].max()}")
    return lines


def _unfilter(png: PngFile, lines: NDArray[np.uint8]) -> NDArray[Any]:
    """Pixels of successive lines, the line above the first of which is black."""
    header = struct.pack(">II", png.width, len(lines)) + png.data[24:29]
    body = (
        png_chunk(b"IHDR", header),
        png_chunk(b"IDAT", deflate.zlib_compress(lines, 0)),
        png_chunk(b"IEND", b""),
    )
    try:
        pixels: NDArray[Any] = pyspng.load(b"".join((SIGNATURE, *body)))
    except RuntimeError as error:
        raise InputError(f"{png.path}: {png.what} cannot be decoded: {error}") from error
    return pixels


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG, with its checksum."""
    body = kind + content
    return b"".join((struct.pack(">I", len(content)), body, struct.pack(">I", _crc32(body))))


def write_rgb(path: Path, size: tuple[int, int], strips: Iterable[NDArray[np.uint8]]) -> None:
    """Write an 8-bit RGB PNG from strips of rows, which are never in memory together.

    Args:
        path: to write.
        size: (height, width) of the image.
        strips: uint8 [R, W, 3], from top to bottom.
    """
    height, width = size
    above, compress = np.zeros(3 * width, np.uint8), zlib.compressobj(_COMPRESSION)
    with open(path, "wb") as stream:
        header = struct.pack(">IIBBBBB", width, height, 8, RGB, 0, 0, 0)
        stream.write(SIGNATURE + png_chunk(b"IHDR", header))
        for strip in strips:
            rows = strip.reshape(len(strip), -1)
            lines = np.empty((len(rows), 3 * width + 1), np.uint8)
            lines[:, 0] = _UP
            lines[:, 1:] = rows - np.concatenate([above[None], rows[:-1]])
            above = rows[-1]
            if content := compress.compress(lines.tobytes()):
                stream.write(png_chunk(b"IDAT", content))
        stream.write(png_chunk(b"IDAT", compress.flush()) + png_chunk(b"IEND", b""))
