"""Image files without their metadata, for readers that fail on malformed ones though the pixels are sound."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
# Chunks of a PNG that determine its pixels, and the EXIF data, which are not parsed while it is read.
_PNG_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"}
_APPLICATION, _COMMENT, _START_OF_SCAN = range(0xE0, 0xF0), 0xFE, 0xDA
_JFIF, _ADOBE = 0xE0, 0xEE  # they determine the colour space
_ORIENTATION, _SHORT = 274, 3
_EXIF = b"Exif\x00\x00"
# Tags of a TIFF that determine its pixels, or where they are.
_TIFF_TAGS = {
    *(254, 255, 256, 257, 258, 259, 262, 263, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320),
    *(322, 323, 324, 325, 330, 332, 338, 339, 347, 512, 513, 514, 515, 519, 520, 521, 529, 530, 531, 532),
}


@dataclass(frozen=True)
class PlainImage:
    """The content of an image file without metadata, and the EXIF data that were removed from it."""

    data: bytes
    exif: bytes = b""


def without_metadata(data: bytes) -> PlainImage | None:
    """The content of an image file, without what does not influence its pixels.

    Args:
        data: content of a JPEG, PNG or TIFF.

    Returns:
        None if nothing can be removed: another format, or its structure is damaged.
    """
    try:
        if data.startswith(_PNG):
            plain = PlainImage(b"".join((_PNG, *_pixel_chunks(data))))
        elif data.startswith(_JPEG):
            plain = _plain_jpeg(data)
        elif data[:4] in (b"II*\0", b"MM\0*"):
            plain = PlainImage(_plain_tiff(data))
        else:
            return None
    except (struct.error, IndexError):
        return None
    return None if plain.data == data else plain


def orientation_entry(exif: bytes) -> int | None:
    """The orientation in the first directory of EXIF data; its other entries may be malformed."""
    exif = exif.removeprefix(_EXIF)
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, number, value = struct.unpack_from(f"{order}HHIH", exif, place)
            if (tag, kind, number) == (_ORIENTATION, _SHORT, 1):
                return int(value)
    except struct.error:
        pass
    return None


def _pixel_chunks(data: bytes) -> Iterator[bytes]:
    position = len(_PNG)
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        if kind in _PNG_CHUNKS:
            yield data[position : position + length + 12]
        position += length + 12


def _plain_jpeg(data: bytes) -> PlainImage:
    kept, exif, position = [data[:2]], b"", 2
    while True:
        while data[position + 1] == 0xFF:  # fill bytes
            position += 1
        marker, (length,) = data[position + 1], struct.unpack_from(">H", data, position + 2)
        if data[position] != 0xFF or marker == _START_OF_SCAN:
            return PlainImage(b"".join((*kept, data[position:])), exif)
        segment = data[position : position + 2 + length]
        if segment[4:].startswith(_EXIF):
            exif = exif or segment[4:]
        if (marker not in _APPLICATION and marker != _COMMENT) or marker in (_JFIF, _ADOBE):
            kept.append(segment)
        position += 2 + length


def _plain_tiff(data: bytes) -> bytes:
    order = "<" if data.startswith(b"II") else ">"
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    entries = [data[start + 2 + 12 * i : start + 14 + 12 * i] for i in range(count)]
    kept = [entry for entry in entries if struct.unpack_from(f"{order}H", entry)[0] in _TIFF_TAGS]
    # One directory, whose entries are followed by the place of the next one: none.
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)
    return data[:start] + directory + data[start + len(directory) :]
