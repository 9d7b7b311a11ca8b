"""Images in strips of rows have the pixels of the whole image, and give the same network input."""

import struct
import zlib
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kmax.data.augmentation.fitting import write_fitted
from kmax.data.augmentation.strip_resampling import shrink_with_pillow, write_fitted_strips
from kmax.data.formats import image_strips
from kmax.data.formats.image_file import UnreadableImageError, load_image
from kmax.data.formats.image_strips import open_strips
from kmax.data.formats.png import SIGNATURE, png_chunk, write_rgb

HEIGHT, WIDTH = 107, 131
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
IMAGE = Image.fromarray(PIXELS)


@pytest.fixture(autouse=True)
def small_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_strips, "STRIP_BYTES", 7 * 3 * WIDTH)


def write_png(path: Path, depth: int, color_type: int, channels: int) -> None:
    """Random pixels, and lines of all filters."""
    lines = RNG.integers(0, 256, (HEIGHT, 1 + (WIDTH * channels * depth + 7) // 8), dtype=np.uint8)
    lines[:, 0] = RNG.integers(0, 5, HEIGHT)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, color_type, 0, 0, 0)
    colours = png_chunk(b"PLTE", RNG.bytes(3 << depth)) if color_type == 3 else b""
    pixels = zlib.compress(lines.tobytes())
    parts = (pixels[:1000], pixels[1000:])
    body = b"".join(png_chunk(b"IDAT", part) for part in parts)
    path.write_bytes(SIGNATURE + png_chunk(b"IHDR", header) + colours + body + png_chunk(b"IEND", b""))


@pytest.mark.parametrize(
    ("depth", "color_type", "channels"),
    [(depth, 0, 1) for depth in (1, 2, 4, 8)]
    + [(depth, 3, 1) for depth in (1, 2, 4, 8)]
    + [(depth, kind, n) for depth in (8, 16) for kind, n in ((2, 3), (4, 2), (6, 4))],
)
def test_every_kind_of_png(depth: int, color_type: int, channels: int, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_png(path, depth, color_type, channels)
    strips = list(open_strips(path, 10**6))
    assert len(strips) > 10
    np.testing.assert_array_equal(np.concatenate(strips), load_image(path).rgb())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_every_orientation(suffix: str, orientation: int, tmp_path: Path) -> None:
    exif, path = Image.Exif(), tmp_path / f"a.{suffix}"
    exif[274] = orientation
    IMAGE.save(path, exif=exif)
    strips = open_strips(path, 10**6)
    upright = load_image(path).rgb(upright=True)
    assert strips.size == strips.original_size == upright.shape[:2]
    np.testing.assert_array_equal(np.concatenate(list(strips)), upright)


@pytest.mark.parametrize("preprocessing", ["tf", "torch", None])
def test_the_network_input_is_the_same(preprocessing: str | None, tmp_path: Path) -> None:
    IMAGE.save(tmp_path / "a.png")
    strips = open_strips(tmp_path / "a.png", 10**6)
    for native, size in product((False, True), ((65, 65), (33, 97), (107, 131), (9, 200))):
        whole, by_strips = np.empty((3, *size), np.float32), np.empty((3, *size), np.float32)
        content = write_fitted(PIXELS, whole, preprocessing, native)
        assert write_fitted_strips(strips, by_strips, preprocessing, native) == content
        # Pillow may resize along y first.
        np.testing.assert_allclose(by_strips, whole, rtol=0, atol=0.01 if preprocessing == "torch" else 0)


def test_an_image_is_shrunk_and_written_in_strips(tmp_path: Path) -> None:
    IMAGE.save(tmp_path / "a.png")
    strips = open_strips(tmp_path / "a.png", 10**6)
    shrunk = np.asarray(IMAGE.resize((65, 53), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(shrink_with_pillow(strips, (53, 65)) - shrunk).max() <= 1
    write_rgb(tmp_path / "b.png", (HEIGHT, WIDTH), strips)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b.png")), PIXELS)


def test_a_jpeg_that_is_too_large_is_decoded_at_a_smaller_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_strips, "MAX_DECODED_PIXELS", 50 * 50)
    exif = Image.Exif()
    exif[274] = 6
    IMAGE.save(tmp_path / "a.jpg", exif=exif)
    strips = open_strips(tmp_path / "a.jpg", 10**6)
    assert strips.original_size == (WIDTH, HEIGHT)
    assert strips.size == (33, 27)
    assert np.concatenate(list(strips)).shape == (33, 27, 3)
    IMAGE.save(tmp_path / "a.webp")
    with pytest.raises(UnreadableImageError, match="of 131x107 pixels does not fit in memory"):
        open_strips(tmp_path / "a.webp", 10**6)


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_truncated_png_is_refused(kept: float, tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", 8, 2, 3)
    content = (tmp_path / "a.png").read_bytes()
    header, pixels = content[:33], content[41 : int(len(content) * kept)]
    (tmp_path / "a.png").write_bytes(header + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b""))
    with pytest.raises(UnreadableImageError, match=r"a\.png: image cannot be read"):
        list(open_strips(tmp_path / "a.png", 10**6))
