"""Large images in strips of rows, so that their pixels are never in memory as a whole.

The pixels are those of `LoadedImage.rgb`. PNGs without interlacing are decoded strip by strip. Other files
are decoded by Pillow, at 1 or 4 bytes per pixel, and only their conversion to RGB takes place in strips.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from kmax.data.formats.image_file import TRANSPOSED, UPRIGHT, LoadedImage, image_errors, load_image
from kmax.data.formats.png import BIT_DEPTHS, GREY, RGB, SIGNATURE, png_chunk

STRIP_BYTES = 2**24
# Pixels of an image that Pillow decodes as a whole: 0.8 GB at 4 bytes each.
MAX_DECODED_PIXELS = 200_000_000
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_READ_BYTES = 2**20
Strip = NDArray[np.uint8]


class ImageStrips(Protocol):
    """An upright RGB image, from top to bottom.

    Attributes:
        size: (height, width) of the strips together.
        original_size: (height, width) of the image; larger if the file is decoded at a smaller size.
        mode: Pillow's name of the channels that are stored.
    """

    size: tuple[int, int]
    original_size: tuple[int, int]
    mode: str

    def __iter__(self) -> Iterator[Strip]:
        """Strips uint8 [R, W, 3]; each iteration reads the image again.

        Raises:
            UnreadableImageError: corrupt or truncated.
        """


def open_strips(path: Path, max_pixels: int) -> ImageStrips:
    """An image in strips of rows.

    Args:
        path: of the file.
        max_pixels: a larger image is refused. A JPEG of more than 200 million pixels is decoded at half its
            size, or less; of the other formats, only PNGs without interlacing can be larger.

    Raises:
        UnreadableImageError: missing, corrupt or too large.
    """
    header = _read_header(path)
    if header is not None and 0 < header.width * header.height <= max_pixels:
        return _PngStrips(path, header)
    loaded = load_image(path, max_pixels=max_pixels, max_decoded=MAX_DECODED_PIXELS)
    return _LoadedStrips(loaded)


class _LoadedStrips:
    """A decoded image; parts of it are rotated, mirrored and converted."""

    def __init__(self, image: LoadedImage) -> None:
        self._image = image
        self._orientation = UPRIGHT if image.is_upright else image.orientation
        swapped = self._orientation in (5, 6, 7, 8)
        width, height = image.pillow.size
        self.size = (width, height) if swapped else (height, width)
        self.original_size = image.size if swapped else image.size[::-1]
        self.mode = image.mode

    def __iter__(self) -> Iterator[Strip]:
        step = _rows_of_strip(self.size[1])
        for start in range(0, self.size[0], step):
            with image_errors(self._image.path, self._image.what):
                strip = self._image.pillow.crop(self._box(start, min(start + step, self.size[0])))
                if self._orientation != UPRIGHT:
                    strip = strip.transpose(TRANSPOSED[self._orientation])
                pixels = np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))
            yield pixels

    def _box(self, start: int, end: int) -> tuple[int, int, int, int]:
        """Where the upright rows from `start` to `end` are stored: left, top, right, bottom."""
        width, height = self._image.pillow.size
        match self._orientation:
            case 3 | 4:
                return (0, height - end, width, height - start)
            case 5 | 6:
                return (start, 0, end, height)
            case 7 | 8:
                return (width - end, 0, width - start, height)
            case _:
                return (0, start, width, end)


@dataclass(frozen=True)
class _Header:
    """Of a PNG that can be decoded in strips.

    Attributes:
        form: bit depth, colour type, and so on, as in the header.
        colours: the chunks that say what the samples mean.
        places: (start, bytes) of the parts of the compressed pixels in the file.
    """

    width: int
    height: int
    form: bytes
    colours: bytes
    places: list[tuple[int, int]]

    @property
    def bits(self) -> int:
        """Bits per pixel."""
        return int(self.form[0]) * _CHANNELS[self.form[1]]

    @property
    def line_bytes(self) -> int:
        """Bytes of a line, without its filter."""
        return (self.width * self.bits + 7) // 8


def _read_header(path: Path) -> _Header | None:
    """The header of a PNG; None for what Pillow has to decode or to refuse."""
    try:
        with open(path, "rb") as stream:
            return _header(stream) if stream.read(len(SIGNATURE)) == SIGNATURE else None
    except (OSError, struct.error):
        return None


def _header(stream: BinaryIO) -> _Header | None:
    colours, places, fields = b"", [], None
    while True:
        length, kind = struct.unpack(">I4s", stream.read(8))
        place = stream.tell()
        if kind == b"IHDR" and length == 13:
            fields = struct.unpack(">II5s", stream.read(13))
        elif kind in (b"PLTE", b"tRNS"):
            colours += png_chunk(kind, stream.read(min(length, 3 * 256)))
        elif kind == b"IDAT":
            places.append((place, length))
        elif kind in (b"acTL", b"eXIf"):  # animated, or perhaps rotated
            return None
        elif kind == b"IEND":
            break
        stream.seek(place + length + 4)
    if fields is None or not places:
        return None
    width, height, form = fields
    depth, color_type, *ways = form
    is_deep_grey = (depth, color_type) == (16, GREY)  # Pillow does not convert it to 8 bits
    if depth not in BIT_DEPTHS.get(color_type, ()) or ways != [0, 0, 0] or is_deep_grey:
        return None
    return _Header(width, height, form, colours, places)


class _PngStrips:
    """A PNG whose lines are inflated and unfiltered as they are needed."""

    def __init__(self, path: Path, header: _Header) -> None:
        self._path, self._header = path, header
        self.size = self.original_size = (header.height, header.width)
        self.mode = "RGB"  # or another one of 8 bits, see `_header`

    def __iter__(self) -> Iterator[Strip]:
        from kmax.data.formats.png_loops import unfilter  # here: numba takes half a second to import

        header = self._header
        line = header.line_bytes
        step = min(_rows_of_strip(header.width), max(1, STRIP_BYTES // line))
        above = np.zeros(line, np.uint8)
        source = _Inflated(self._path, header.places)
        for start in range(0, header.height, step):
            raw = np.empty((min(step, header.height - start), line), np.uint8)
            with image_errors(self._path, "image"):
                unfilter(self._lines(source, len(raw)), above, max(1, header.bits // 8), raw)
                pixels = self._pixels(raw)
            above = raw[-1]
            yield pixels

    def _lines(self, source: _Inflated, count: int) -> Strip:
        """The next lines [R, 1 + bytes of a line], filter and filtered bytes."""
        size = count * (self._header.line_bytes + 1)
        content = source.read(size)
        if len(content) < size:
            raise ValueError("its pixels are truncated")
        lines = np.frombuffer(content, np.uint8).reshape(count, -1)
        if lines[:, 0].max() > 4:
            raise ValueError(f"unknown line filter {lines[:, 0].max()}")
        return lines

    def _pixels(self, raw: Strip) -> Strip:
        header = self._header
        if header.form[:2] == bytes((8, RGB)):
            return raw.reshape(len(raw), header.width, 3)
        lines = np.zeros((len(raw), header.line_bytes + 1), np.uint8)  # 0: not filtered
        lines[:, 1:] = raw
        fields = struct.pack(">II", header.width, len(raw)) + header.form
        body = zlib.compress(lines.tobytes(), 0)
        chunks = (
            png_chunk(b"IHDR", fields),
            header.colours,
            png_chunk(b"IDAT", body),
            png_chunk(b"IEND", b""),
        )
        with PillowImage.open(io.BytesIO(b"".join((SIGNATURE, *chunks))), formats=("PNG",)) as image:
            return np.asarray(image.convert("RGB"))


class _Inflated:
    """The inflated pixels of a PNG, read in order."""

    def __init__(self, path: Path, places: list[tuple[int, int]]) -> None:
        self._blocks = _blocks(path, places)
        self._inflate = zlib.decompressobj()

    def read(self, count: int) -> bytes:
        """The next bytes; fewer at the end of the stream."""
        parts: list[bytes] = []
        while count > 0:
            waiting = self._inflate.unconsumed_tail or next(self._blocks, b"")
            if not waiting:
                break
            part = self._inflate.decompress(waiting, count)
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


def _blocks(path: Path, places: list[tuple[int, int]]) -> Iterator[bytes]:
    with open(path, "rb") as stream:
        for start, length in places:
            stream.seek(start)
            while length > 0 and (block := stream.read(min(length, _READ_BYTES))):
                yield block
                length -= len(block)


def _rows_of_strip(width: int) -> int:
    return max(1, STRIP_BYTES // (3 * width))
