"""JPEGs have the pixels that Pillow gives them, whichever library decodes them, and the same errors."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kmax.data.formats import image_arrays
from kmax.data.formats.coco_panoptic import read_image, read_image_words
from kmax.errors import InputError

RNG = np.random.default_rng(0)


def picture(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """Smooth colours with some noise."""
    coarse = Image.fromarray(RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8)).resize(size)
    noise = RNG.integers(0, 32, (size[1], size[0], 3)).astype(np.uint8)
    return Image.fromarray(np.asarray(coarse) ^ noise).convert(mode)


def encoded(image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (17, 9), (64, 33)])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(("mode", "subsampling"), [("RGB", 0), ("RGB", 1), ("RGB", 2), ("L", 0)])
def test_pixels_are_those_of_pillow(
    size: tuple[int, int], progressive: bool, mode: str, subsampling: int
) -> None:
    if image_arrays.simplejpeg is None:
        pytest.skip("simplejpeg is not installed")
    for quality in (20, 95):
        data = encoded(picture(size, mode), quality=quality, subsampling=subsampling, progressive=progressive)
        with Image.open(io.BytesIO(data)) as image:
            wanted = np.asarray(image.convert("RGB"))
        words = image_arrays.decode_jpeg_words(data)
        assert words is not None
        assert words.shape == (size[1], size[0], 4)
        assert (words[..., :3] == wanted).all()


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("a.jpg", "L"),
        ("a.jpg", "RGB"),
        ("a.jpg", "CMYK"),
        ("a.png", "L"),
        ("a.png", "RGB"),
        ("a.png", "RGBA"),
    ],
)
@pytest.mark.parametrize("fast", [True, False])
def test_images_of_every_kind_are_read_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, mode: str, fast: bool
) -> None:
    if not fast:
        monkeypatch.setattr(image_arrays, "simplejpeg", None)
    picture((31, 20), mode).save(tmp_path / name)
    assert (read_image_words(tmp_path / name)[..., :3] == read_image(tmp_path / name)).all()


def test_corrupt_files_are_read_or_rejected_alike(tmp_path: Path) -> None:
    whole = encoded(picture((48, 40)))
    path = tmp_path / "a.jpg"
    outcomes = set()
    for _ in range(150):
        data = bytearray(whole)
        for place in RNG.integers(0, len(data), 2).tolist():
            data[place] = int(RNG.integers(256))
        path.write_bytes(data[: RNG.integers(2, 2 * len(data))])
        try:
            wanted = read_image(path)
        except InputError as error:
            with pytest.raises(InputError, match=re.escape(str(error))):
                read_image_words(path)
            outcomes.add("refused")
        else:
            assert (read_image_words(path)[..., :3] == wanted).all()
            outcomes.add("read")
    assert outcomes == {"read", "refused"}
