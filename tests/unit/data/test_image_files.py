"""Images of users: sound pixels are read whatever the metadata hold; anything else is one line."""

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kmax.data.faults import Fault, FaultKind
from kmax.data.formats.coco_panoptic import read_image, read_image_words
from kmax.data.formats.image_file import UnreadableImageError, load_image
from kmax.data.prepare.check_dataset import check_image

ORIENTATION, X_RESOLUTION, RESOLUTION_UNIT = 274, 282, 296
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
# Entries of EXIF data: tag, type, count, four bytes of the value. All but the orientation are malformed.
UPRIGHT_AFTER_A_QUARTER_TURN = (ORIENTATION, 3, 1, b"\x06\0\0\0")
MALFORMED = {
    "not a number": (X_RESOLUTION, 11, 1, b"\0\0\xc0\x7f"),
    "negative ratio": (X_RESOLUTION, 10, 1, struct.pack("<I", 38)),
    "negative short": (RESOLUTION_UNIT, 8, 1, b"\xfe\xff\0\0"),
    "text": (X_RESOLUTION, 2, 4, b"abc\0"),
    "division by zero": (X_RESOLUTION, 5, 1, struct.pack("<I", 54)),
    "place outside": (X_RESOLUTION, 5, 1, b"\xff\xff\xff\x7f"),
    "endless": (305, 2, 0xFFFFFFFF, b"\0\0\0\0"),
    "unknown type": (X_RESOLUTION, 99, 1, b"\0\0\0\0"),
    "sub-directory that contains itself": (34665, 4, 1, struct.pack("<I", 8)),
}


def exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    packed = [struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries]
    block = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(packed) + bytes(4)
    return block + struct.pack("<ii", -1, 3) + bytes(16)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def saved(form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, form, **options)
    return stream.getvalue()


def with_exif(form: str, block: bytes) -> bytes:
    if form == "PNG":
        content = saved("PNG")
        return content[:33] + chunk(b"eXIf", block) + content[33:]
    options = {"lossless": True} if form == "WEBP" else {"quality": 95}
    return saved(form, exif=b"Exif\0\0" + block, **options)


def tiff(*entries: tuple[int, int, int, bytes]) -> bytes:
    """An uncompressed TIFF with more entries in its directory."""
    height, width = PIXELS.shape[:2]
    base = {256: width, 257: height, 259: 1, 262: 2, 277: 3, 278: height, 279: PIXELS.nbytes, 284: 1}
    numbers = [(tag, 4, 1, struct.pack("<I", value)) for tag, value in base.items()]
    found = sorted([*numbers, (258, 3, 1, b"\x08\0\0\0"), (273, 4, 1, b"\0\0\0\0"), *entries])
    start = 8 + 2 + 12 * len(found) + 4
    found = [(*entry[:3], struct.pack("<I", start)) if entry[0] == 273 else entry for entry in found]
    packed = [struct.pack("<HHI", *entry[:3]) + entry[3] for entry in found]
    return b"II*\0" + struct.pack("<IH", 8, len(found)) + b"".join(packed) + bytes(4) + PIXELS.tobytes()


def is_turned(path: Path, content: bytes) -> bool:
    """Whether the image is rotated by its orientation; its pixels are also those of the stored image."""
    path.write_bytes(content)
    image = load_image(path)
    upright = image.rgb(upright=True)
    assert np.abs(read_image(path).astype(int) - read_image_words(path)[..., :3]).max() == 0
    assert check_image(path, None, []) is not None
    return upright.shape == (30, 20, 3)


@pytest.mark.parametrize("kind", MALFORMED)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_malformed_exif_is_no_fault_and_its_orientation_applies(
    form: str, kind: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    for entries in (
        (UPRIGHT_AFTER_A_QUARTER_TURN, MALFORMED[kind]),
        (MALFORMED[kind], UPRIGHT_AFTER_A_QUARTER_TURN),
    ):
        assert is_turned(tmp_path / "image", with_exif(form, exif(*entries)))
    assert not is_turned(tmp_path / "image", with_exif(form, exif(MALFORMED[kind])))
    assert not is_turned(tmp_path / "image", with_exif(form, b"no EXIF data at all"))
    assert not recwarn.list


@pytest.mark.parametrize("kind", ["not a number", "negative short", "text", "unknown type"])
def test_malformed_tags_of_a_tiff_are_no_fault(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(MALFORMED[kind], UPRIGHT_AFTER_A_QUARTER_TURN))
    turned = np.rot90(PIXELS, -1)
    np.testing.assert_array_equal(load_image(path).rgb(upright=True), turned)
    path.write_bytes(tiff(MALFORMED[kind], (RESOLUTION_UNIT, 3, 1, b"\x03\0\0\0")))
    np.testing.assert_array_equal(read_image(path), PIXELS)


@pytest.mark.parametrize(
    "kind", ["too long", "many", "bad checksum", "corrupt profile", "malformed raw profile"]
)
def test_chunks_of_a_png_that_pillow_refuses_are_no_fault(kind: str, tmp_path: Path) -> None:
    extra = {
        "too long": chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(2**21))),
        "many": chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(2**20 - 9))) * 80,
        "bad checksum": chunk(b"tEXt", b"key\0value")[:-4] + b"abcd",
        "corrupt profile": chunk(b"iCCP", b"name\0\x07zz"),
        "malformed raw profile": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\nzz")),
    }[kind]
    content, path = saved("PNG"), tmp_path / "a.png"
    for place in (33, len(content) - 12):
        path.write_bytes(content[:place] + extra + content[place:])
        np.testing.assert_array_equal(load_image(path).rgb(upright=True), PIXELS)
        assert check_image(path, None, []) is not None


def gif(path: Path) -> None:
    Image.fromarray(PIXELS).save(path, "GIF")


def truncated(path: Path) -> None:
    path.write_bytes(saved("JPEG")[:-300])


def many_pixels(path: Path) -> None:
    content = saved("PNG")
    header = struct.pack(">II", 30000, 6000) + content[24:29]
    path.write_bytes(content[:8] + chunk(b"IHDR", header) + content[33:])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (gif, "image cannot be read: not an image (JPEG, PNG, WebP, TIFF or BMP)"),
        (truncated, "image file is truncated"),
        (many_pixels, "image is too large: 30000x6000 = 180000000 pixels, the limit is 178956970"),
        (os.mkfifo, "image cannot be read: not a regular file"),
        (Path.mkdir, "image cannot be read: not a regular file"),
        (lambda path: path.write_bytes(b""), "not an image"),
    ],
)
def test_other_images_are_refused_in_one_line(
    damage: Callable[[Path], object], reason: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "image"
    damage(path)
    faults: list[Fault] = []
    assert check_image(path, None, faults) is None
    ((kind, line),) = faults
    assert kind is FaultKind.UNREADABLE
    for reader in (load_image, read_image, read_image_words):
        with pytest.raises(UnreadableImageError) as caught:
            reader(path)
        assert caught.value.faults == [line]
    assert line.startswith(f"{path}: ")
    assert reason in line
    assert len(line.splitlines()) == 1
    assert not recwarn.list


def test_libtiff_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = bytearray(saved("TIFF", compression="tiff_lzw"))
    content[8:60] = bytes(52)  # the compressed pixels
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(UnreadableImageError):
        load_image(tmp_path / "a.tif")
    assert capfd.readouterr() == ("", "")


def fuzz(folder: Path, count: int, seed: int) -> dict[str, float]:
    script = Path(__file__).with_name("fuzz_images.py")
    command = [sys.executable, str(script), str(count), str(seed), str(folder)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert not answer.stderr
    print(answer.stdout)
    return json.loads(answer.stdout)


def test_damaged_images_are_read_or_refused(tmp_path: Path) -> None:
    found = fuzz(tmp_path, 1000, seed=1)
    assert found["inputs"] == 1000
    for form in ("jpeg", "png", "webp", "tiff", "bmp"):
        assert found[f"{form} anywhere read"]
        assert found[f"{form} header refused"]
    assert not any(name.endswith("exif refused") for name in found if not name.startswith("tiff"))


@pytest.mark.long
def test_100_000_damaged_images_are_read_or_refused(tmp_path: Path) -> None:
    assert sum(fuzz(tmp_path, 25_000, seed)["inputs"] for seed in range(1, 5)) == 100_000
