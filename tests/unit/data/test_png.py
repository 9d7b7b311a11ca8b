"""PNG files decoded as Pillow decodes them, and rejected with a one-line error when they are corrupt."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kmax.data.formats import png
from kmax.errors import InputError
from kmax.evaluation.cityscapes.cityscapes_instances import PixelsBelow
from kmax.evaluation.panoptic.pairs import count_pairs, count_png_pairs

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (37, 53, 3)).astype(np.uint8)
GREY = RNG.integers(0, 256, (21, 8)).astype(np.uint8)


def write(path: Path, pixels: np.ndarray, mode: str | None = None) -> png.PngFile:
    Image.fromarray(pixels, mode).save(path)
    return png.open_png(path, "map")


def write_lines(path: Path, lines: np.ndarray) -> None:
    """A PNG of three channels with these filter bytes and filtered bytes."""
    header = struct.pack(">IIBBBBB", lines.shape[1] // 3, len(lines), 8, 2, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes())), (b"IEND", b"")):
        parts += [struct.pack(">I", len(body)), kind, body, struct.pack(">I", zlib.crc32(kind + body))]
    path.write_bytes(b"".join(parts))


@pytest.fixture(params=[True, False], ids=["libspng", "pillow"])
def _decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without the fast packages."""
    if not request.param:
        monkeypatch.setattr(png, "deflate", None)
    elif png.deflate is None:
        pytest.skip("deflate and pyspng are not installed")


@pytest.mark.usefixtures("_decoder")
class TestPixels:
    def test_rgb(self, tmp_path: Path) -> None:
        assert (png.decode_rgb(write(tmp_path / "a.png", RGB)) == RGB).all()

    def test_alpha_is_dropped(self, tmp_path: Path) -> None:
        rgba = np.concatenate([RGB, RNG.integers(0, 256, (37, 53, 1)).astype(np.uint8)], axis=2)
        assert (png.decode_rgb(write(tmp_path / "a.png", rgba)) == RGB).all()

    @pytest.mark.parametrize("flat", [False, True], ids=["noise", "regions"])
    def test_segment_ids_through_every_filter(self, tmp_path: Path, flat: bool) -> None:
        lines = RNG.integers(0, 256, (40, 1 + 3 * 31)).astype(np.uint8)
        if flat:  # few filtered bytes differ from 0, as in label maps
            lines[:, 1:] *= RNG.random((40, 3 * 31)) < 0.05
        lines[:, 0] = np.arange(40) % 5
        write_lines(tmp_path / "a.png", lines)
        with Image.open(tmp_path / "a.png") as image:
            red, green, blue = np.asarray(image).astype(np.int32).transpose(2, 0, 1)
        found = png.decode_ids(png.open_png(tmp_path / "a.png", "map"))
        assert (found == red + 256 * green + 65536 * blue).all()

    def test_an_unknown_filter_is_reported(self, tmp_path: Path) -> None:
        lines = np.zeros((4, 1 + 3 * 5), np.uint8)
        lines[2, 0] = 5
        write_lines(tmp_path / "a.png", lines)
        with pytest.raises(InputError, match=r"a\.png: map cannot be decoded"):
            png.decode_ids(png.open_png(tmp_path / "a.png", "map"))

    def test_grey_of_8_and_16_bits(self, tmp_path: Path) -> None:
        deep = RNG.integers(0, 2**16, (9, 14)).astype(np.uint16)
        for pixels in (GREY, deep):
            found = png.decode_labels(write(tmp_path / "a.png", pixels))
            assert found.dtype == pixels.dtype
            assert (found == pixels).all()

    def test_palette_gives_indices(self, tmp_path: Path) -> None:
        image = Image.fromarray((GREY % 5).astype(np.uint8), "P")
        image.putpalette(RNG.integers(0, 256, 768).astype(np.uint8).tobytes())
        image.save(tmp_path / "a.png")
        assert (png.decode_labels(png.open_png(tmp_path / "a.png", "map")) == GREY % 5).all()

    @pytest.mark.parametrize("rows", [slice(0, 0), slice(3, 7), slice(0, 4), slice(30, 40), slice(0, 40)])
    def test_masks_wherever_they_lie(self, tmp_path: Path, rows: slice) -> None:
        pixels = np.zeros((40, 31), np.uint8)
        pixels[rows, 4:20] = RNG.integers(0, 3, (40, 16))[rows]
        pixels[rows, 22:24] = 255
        assert (png.decode_mask(write(tmp_path / "a.png", pixels)) == (pixels != 0)).all()

    def test_masks_of_other_kinds(self, tmp_path: Path) -> None:
        black = np.where(GREY > 128, GREY, 0).astype(np.uint8)
        found = png.decode_mask(write(tmp_path / "a.png", np.stack([black] * 3, axis=2)))
        assert (found == (black != 0)).all()


def filtered_png(path: Path, pixels: np.ndarray, filters: list[int]) -> png.PngFile:
    """Pixels [H, W] or [H, W, 3] as a PNG whose lines have the given filters, in turns."""
    size = pixels[..., 0].size // len(pixels) if pixels.ndim == 3 else pixels.shape[1]
    data = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(len(pixels), -1).view(np.uint8).astype(int)
    step = data.shape[1] // size
    padded = np.pad(data, ((1, 0), (step, 0)))
    left, above, corner = padded[1:, :-step], padded[:-1, step:], padded[:-1, :-step]
    distances = np.abs(left + above - corner - np.stack([left, above, corner]))
    paeth = np.choose(distances.argmin(0), [left, above, corner])  # the first of equals, as the standard says
    predicted = [np.zeros_like(data), left, above, (left + above) // 2, paeth]
    lines = b"".join(
        bytes([kind]) + ((data[y] - predicted[kind][y]) % 256).astype(np.uint8).tobytes()
        for y in range(len(data))
        for kind in (filters[y % len(filters)],)
    )
    kinds = 8 * pixels.itemsize, 2 if pixels.ndim == 3 else 0
    header = struct.pack(">IIBBBBB", size, len(pixels), *kinds, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return png.open_png(path, "map")


REGIONS = np.kron(RNG.integers(0, 3, (6, 5)), np.ones((5, 30), int))  # what runs are found in
REGIONS[:, 70:74] = RNG.integers(0, 256, (30, 4))


@pytest.mark.parametrize("filters", [[0], [1], [2], [3], [4], [4, 1, 0, 2, 3], [1, 1, 4, 4, 2, 4]])
@pytest.mark.parametrize("width", [1, 7, 8, 24, 150])
class TestFilters:
    """Every filter of lines, on runs long enough to be taken several pixels at a time."""

    def test_of_labels(self, tmp_path: Path, filters: list[int], width: int) -> None:
        for pixels in (REGIONS.astype(np.uint8), (REGIONS * 257 % 65521 + 1000).astype(np.uint16)):
            pixels = pixels[:, :width]
            file = filtered_png(tmp_path / "a.png", pixels, filters)
            found = png.decode_labels(file)
            assert found.dtype == pixels.dtype
            np.testing.assert_array_equal(found, pixels)
            with Image.open(tmp_path / "a.png") as image:
                np.testing.assert_array_equal(np.asarray(image), pixels)

    def test_of_pairs(self, tmp_path: Path, filters: list[int], width: int) -> None:
        ids = REGIONS[:, :width] * 70_003 % 2**24
        maps = [ids, np.roll(ids, 1, (0, 1))]
        colours = [m.astype("<u4").view(np.uint8).reshape(*m.shape, 4)[..., :3] for m in maps]
        files = [
            filtered_png(tmp_path / f"{i}.png", c, filters[i:] or filters) for i, c in enumerate(colours)
        ]
        for found, wanted in zip(
            vars(count_png_pairs(*files)).values(), vars(count_pairs(*maps)).values(), strict=True
        ):
            np.testing.assert_array_equal(found, wanted)

    def test_of_masks(self, tmp_path: Path, filters: list[int], width: int) -> None:
        truth = (REGIONS[:, :width] * 1000 % 40_000).astype(np.uint16)
        below = PixelsBelow(truth)
        for mask in (REGIONS == 1, np.zeros_like(REGIONS), REGIONS >= 0, np.tri(30, 150, 40) > 0):
            file = filtered_png(tmp_path / "a.png", mask[:, :width].astype(np.uint8) * 255, filters)
            wanted = [(truth[mask[:, :width] > 0] == value).sum() for value in below.ids]
            np.testing.assert_array_equal(below.count(file), wanted)


def test_files_of_different_sizes_are_not_counted(tmp_path: Path) -> None:
    maps = [write(tmp_path / f"{rows}.png", RGB[:rows]) for rows in (20, 19)]
    with pytest.raises(ValueError, match="53x20 and 53x19"):
        count_png_pairs(*maps)
    with pytest.raises(ValueError, match="8x21 pixels"):
        PixelsBelow(GREY[:20]).count(write(tmp_path / "mask.png", GREY))


@pytest.mark.parametrize("cut", [0, 5, 20, 33, 60, 200, -20, -1])
def test_truncation_is_reported(tmp_path: Path, cut: int) -> None:
    write(tmp_path / "a.png", RGB)
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:cut])
    with pytest.raises(InputError, match=r"a\.png: map (is not a PNG|cannot be read: truncated)"):
        png.open_png(tmp_path / "a.png", "map")


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "a.png", RGB[:3, :4])
    data = (tmp_path / "a.png").read_bytes()
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x10
        (tmp_path / "b.png").write_bytes(changed)
        with pytest.raises(InputError, match=r"b\.png"):
            png.decode_rgb(png.open_png(tmp_path / "b.png", "map"))


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


@pytest.mark.parametrize(
    ("width", "height", "data"),
    [
        (4, 4, zlib.compress(b"\0" * 51)),  # one byte short
        (4, 4, zlib.compress(b"\0" * 53)),
        (4, 4, b"no deflate at all"),
        (4, 4, zlib.compress(b"\7" * 52)),  # no such filter
        (2**20, 2**20, zlib.compress(b"\0" * 52)),
        (0, 4, zlib.compress(b"")),
    ],
)
def test_files_with_sound_checksums_that_lie(tmp_path: Path, width: int, height: int, data: bytes) -> None:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    with pytest.raises(InputError, match=r"a\.png"):
        png.decode_rgb(png.open_png(tmp_path / "a.png", "map"))


def lying_png(path: Path, header: bytes, size: int, more: bytes = b"") -> Path:
    """A file with sound checksums: a header, `more` chunks, and lines of `size` bytes in all."""
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * size)) + more + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


@pytest.mark.parametrize(
    "kind",
    [(12, 0, 0, 0), (9, 0, 0, 0), (4, 2, 0, 0), (16, 3, 0, 0), (8, 7, 0, 0), (8, 2, 1, 0), (8, 2, 0, 1)],
)
def test_kinds_that_the_standard_lacks_are_refused(tmp_path: Path, kind: tuple[int, ...]) -> None:
    """A line of 12-bit grey is shorter than the pixels that would be read from it."""
    header = struct.pack(">IIBBBBB", 8, 4, *kind, 0)
    with pytest.raises(InputError, match="invalid PNG header"):
        png.open_png(lying_png(tmp_path / "a.png", header, 4 * (1 + 8 * kind[0] // 8)), "map")


def test_a_second_header_is_refused(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 8, 4, 8, 0, 0, 0, 0)
    file = lying_png(tmp_path / "a.png", header, 36, chunk(b"IHDR", header))
    with pytest.raises(InputError, match="a second one"):
        png.open_png(file, "map")


def test_broken_chunks_beside_the_pixels_are_reported(tmp_path: Path) -> None:
    """Pillow reads them too: here, a colour profile that ends within its name."""
    header = struct.pack(">IIBBBBB", 8, 4, 8, 4, 0, 0, 0)
    file = lying_png(tmp_path / "a.png", header, 4 * 17, chunk(b"iCCP", b"name\0"))
    with pytest.raises(InputError, match="cannot be decoded"):
        png.decode_mask(png.open_png(file, "map"))


@pytest.mark.parametrize("depths", [(16, 16), (8, 16), (16, 8)])
def test_pairs_of_deep_colours_are_refused(tmp_path: Path, depths: tuple[int, int]) -> None:
    """Their pixels have six bytes, for which the lines of the other map have no room."""
    files = []
    for name, depth in zip("ab", depths, strict=True):
        header = struct.pack(">IIBBBBB", 8, 4, depth, 2, 0, 0, 0)
        path = lying_png(tmp_path / f"{name}.png", header, 4 * (1 + 3 * depth))
        files.append(png.open_png(path, "map"))
    with pytest.raises(InputError, match="not 8-bit RGB"):
        count_png_pairs(*files)


def test_interlaced_files(tmp_path: Path) -> None:
    """No encoder at hand writes one; a single pixel is the same interlaced."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 1)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\1\2\3")) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert png.decode_rgb(png.open_png(tmp_path / "a.png", "map")).tolist() == [[[1, 2, 3]]]


def test_other_channels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="RGB"):
        png.decode_rgb(write(tmp_path / "a.png", GREY))
    with pytest.raises(InputError, match="one channel"):
        png.decode_labels(write(tmp_path / "a.png", RGB))


def test_a_jpeg_is_no_png(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(RGB).save(stream, "JPEG")
    (tmp_path / "a.png").write_bytes(stream.getvalue())
    with pytest.raises(InputError, match="not a PNG"):
        png.open_png(tmp_path / "a.png", "map")
