"""Image files of users: JPEG, PNG, WebP, TIFF and BMP, read by Pillow.

Whatever Pillow raises on a file is one line. Malformed metadata are no fault while the pixels can be decoded.
Pillow's warnings are not shown, and its other decoders are never reached.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from kmax.data.formats.image_metadata import orientation_entry, without_metadata
from kmax.data.formats.png import MAX_PIXELS
from kmax.display import one_line
from kmax.errors import InputError

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
UPRIGHT = 1
_ORIENTATION = 0x0112  # the EXIF tag
TRANSPOSED = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}
_LONGEST_REASON = 200  # characters
# Pillow logs some faults of TIFFs in addition to raising them.
logging.getLogger("PIL").addHandler(logging.NullHandler())


class UnreadableImageError(InputError):
    """An image that cannot be read.

    Args:
        path: of the file.
        what: its role.
        reason: what is wrong, as the predicate of a sentence.
        missing: the file does not exist.
    """

    def __init__(self, path: Path, what: str, reason: str, *, missing: bool = False) -> None:
        super().__init__(f"{path}: {what} {reason}")
        self.missing = missing


class ImageTooLargeError(UnreadableImageError):
    """An image of more pixels than are allowed.

    Args:
        path: of the file.
        what: its role.
        size: (width, height) of the image.
        limit: pixels that are allowed.
    """

    def __init__(self, path: Path, what: str, size: tuple[int, int], limit: int) -> None:
        width, height = size
        self.pixels = width * height
        found = f"is too large: {width}x{height} = {self.pixels} pixels, the limit is {limit}"
        super().__init__(path, what, f"{found}; make it smaller")


@dataclass(frozen=True)
class LoadedImage:
    """An image whose pixels are decoded.

    Attributes:
        path: of its file.
        what: its role, for errors.
        pillow: of the size of the stored pixels; where `load_image` only checks, smaller and grey.
        size: (width, height) of the stored pixels.
        mode: Pillow's name of the channels that are stored.
        orientation: 1 to 8, as EXIF numbers them; 1 where it is missing or malformed.
        is_upright: whether Pillow has already applied the orientation, as it does for TIFF.
    """

    path: Path
    what: str
    pillow: PillowImage.Image
    size: tuple[int, int]
    mode: str
    orientation: int
    is_upright: bool

    def rgb(self, *, upright: bool = False) -> NDArray[np.uint8]:
        """The pixels [H, W, 3]; grey and palette images are converted, and alpha channels are dropped.

        Args:
            upright: rotate and mirror the image by its orientation.
        """
        with image_errors(self.path, self.what):
            image = self.pillow
            if upright and not self.is_upright and self.orientation != UPRIGHT:
                image = image.transpose(TRANSPOSED[self.orientation])
            return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))

    def words(self) -> NDArray[np.uint8]:
        """As `rgb`, padded to four bytes per pixel: [H, W, 4]."""
        with image_errors(self.path, self.what):
            image = self.pillow if self.pillow.mode == "RGB" else self.pillow.convert("RGB")
            content = image.tobytes("raw", "RGBX")
            return np.frombuffer(content, np.uint8).reshape(image.height, image.width, 4)


def load_image(
    path: Path,
    what: str = "image",
    *,
    data: bytes | None = None,
    max_pixels: int = MAX_PIXELS,
    max_decoded: int | None = None,
    check_only: bool = False,
) -> LoadedImage:
    """Decode all pixels of an image file.

    Args:
        path: of the file.
        what: its role, for errors.
        data: its content; None: it is read from the file.
        max_pixels: a larger image is refused before its pixels are decoded.
        max_decoded: a JPEG of more pixels is decoded at a half, a quarter or an eighth of its size, and other
            formats are refused. None: everything is decoded at its size.
        check_only: decode a JPEG to its end, but without most of the arithmetic.

    Raises:
        UnreadableImageError: missing, of another format, truncated, corrupt or too large.
    """
    limits = (max_pixels, max_decoded)
    with image_errors(path, what), _stream(path, what, data) as stream:
        try:
            return _load(stream, path, what, limits, check_only)
        except (InputError, MemoryError):
            raise
        except Exception:
            stream.seek(0)
            plain = without_metadata(stream.read())
            if plain is None:
                raise
            loaded = _load(io.BytesIO(plain.data), path, what, limits, check_only)
            return dataclasses.replace(loaded, orientation=_stored_in(plain.exif)) if plain.exif else loaded


def read_image_file(path: Path, what: str = "image") -> bytes:
    """The content of an image file, for `load_image`.

    Raises:
        UnreadableImageError: missing, or no regular file.
    """
    with image_errors(path, what), _stream(path, what, None) as stream:
        return stream.read()


def read_size(path: Path, what: str = "image") -> tuple[int, int]:
    """The (width, height) in the header of an image file; its pixels are not decoded.

    Raises:
        UnreadableImageError: missing, or of another format.
    """
    with image_errors(path, what), _stream(path, what, None) as stream:
        return _open(stream).size


@contextlib.contextmanager
def open_image(path: Path, what: str = "image") -> Iterator[PillowImage.Image]:
    """A file of one of FORMATS opened by Pillow; the block may hold calls of Pillow only, see `image_errors`.

    Raises:
        UnreadableImageError: missing, not an image, or Pillow raised an exception in the block.
    """
    with image_errors(path, what), _stream(path, what, None) as stream, _open(stream) as image:
        yield image


@contextlib.contextmanager
def image_errors(path: Path, what: str) -> Iterator[None]:
    """Turn whatever Pillow raises in the block into one line; its warnings are not shown.

    Only calls of Pillow and of what allocates pixels may stand in the block: other bugs would be hidden.

    Raises:
        UnreadableImageError: Pillow raised an exception.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except InputError:
            raise
        except UnidentifiedImageError:
            reason = "cannot be read: not an image (JPEG, PNG, WebP, TIFF or BMP)"
            raise UnreadableImageError(path, what, reason) from None
        except MemoryError:
            raise UnreadableImageError(path, what, "cannot be read: it does not fit in memory") from None
        except Exception as error:
            found = one_line(str(error), _LONGEST_REASON) or type(error).__name__
            raise UnreadableImageError(path, what, f"cannot be read: {found}") from error


def _stream(path: Path, what: str, data: bytes | None) -> BinaryIO:
    if data is not None:
        return io.BytesIO(data)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableImageError(path, what, "cannot be read: not a regular file")
        return path.open("rb")
    except FileNotFoundError:
        raise UnreadableImageError(path, what, "not found", missing=True) from None
    except OSError as error:
        raise UnreadableImageError(path, what, f"cannot be read: {error.strerror}") from error


def _load(
    stream: BinaryIO, path: Path, what: str, limits: tuple[int, int | None], check_only: bool
) -> LoadedImage:
    image, (max_pixels, max_decoded) = _open(stream), limits
    (width, height), mode = image.size, image.mode
    if width * height > max_pixels:
        raise ImageTooLargeError(path, what, image.size, max_pixels)
    is_tiff = image.format == "TIFF"
    orientation = _orientation(image.getexif, b"") if is_tiff else UPRIGHT
    if is_tiff:
        _hide_metadata(image, orientation)
    if check_only:
        image.draft("L", (1, 1))
    elif max_decoded is not None and width * height > max_decoded:
        _shrink(image, path, what, max_decoded)
    with (
        _any_size() if width * height > MAX_PIXELS else contextlib.nullcontext(),
        _silent_libtiff() if is_tiff else contextlib.nullcontext(),
    ):
        image.load()
    if not is_tiff:  # the EXIF data of a PNG may follow its pixels
        found = image.info.get("exif")
        orientation = _orientation(image.getexif, found if isinstance(found, bytes) else b"")
    return LoadedImage(path, what, image, (width, height), mode, orientation, is_tiff)


def _shrink(image: PillowImage.Image, path: Path, what: str, max_decoded: int) -> None:
    """Have a JPEG decoded at a smaller size."""
    width, height = image.size
    factor = next((n for n in (2, 4) if -(-width // n) * -(-height // n) <= max_decoded), 8)
    image.draft(image.mode, (width // factor, height // factor))
    if image.width * image.height > max_decoded:
        reason = f"of {width}x{height} pixels does not fit in memory; convert it to a PNG without interlacing"
        raise UnreadableImageError(path, what, reason)


def _open(stream: BinaryIO) -> PillowImage.Image:
    """Read the header of an image of any size."""
    try:
        return PillowImage.open(stream, formats=FORMATS)
    except PillowImage.DecompressionBombError:
        with _any_size():
            return PillowImage.open(stream, formats=FORMATS)


def _orientation(read: Callable[[], PillowImage.Exif], data: bytes) -> int:
    """The orientation in EXIF data, 1 to 8; 1 where it is missing or malformed.

    Args:
        read: parses the EXIF data, and may fail or miss entries after a malformed one.
        data: the EXIF data, if known.
    """
    found: Any = None
    with contextlib.suppress(Exception):
        found = read().get(_ORIENTATION)
    if found is None:
        found = orientation_entry(data)
    with contextlib.suppress(TypeError):  # values that cannot be looked up
        return {number: number for number in TRANSPOSED}.get(found, UPRIGHT)
    return UPRIGHT


def _stored_in(data: bytes) -> int:
    def read() -> PillowImage.Exif:
        exif = PillowImage.Exif()
        exif.load(data)
        return exif

    return _orientation(read, data)


def _hide_metadata(image: PillowImage.Image, orientation: int) -> None:
    """Pillow parses all metadata of a TIFF when it applies the orientation, which is all that it needs."""

    def exif() -> PillowImage.Exif:
        found = PillowImage.Exif()
        found[_ORIENTATION] = orientation
        return found

    image.getexif = exif  # type: ignore[method-assign]


@contextlib.contextmanager
def _any_size() -> Iterator[None]:
    """Pillow's own limit of pixels does not apply."""
    limit = PillowImage.MAX_IMAGE_PIXELS
    PillowImage.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        PillowImage.MAX_IMAGE_PIXELS = limit


@contextlib.contextmanager
def _silent_libtiff() -> Iterator[None]:
    """libtiff prints its errors, which Pillow also raises, to the standard error of the process."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
