"""The user's own folders as they are: links, droppings of systems and tools, suffixes, strange names."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kmax.cli.main import call
from kmax.csv_files import read_csv
from kmax.data.dataset_file import load_dataset
from kmax.data.download.download_dataset import download
from kmax.data.prepare.check_dataset import check
from kmax.data.prepare.prepare_dataset import prepare

Captured = pytest.CaptureFixture[str]


def draw(path: Path, *, mask: bool = False) -> None:
    """An image of 6 x 8 pixels, or a mask of the classes 0 and 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((6, 8) if mask else (6, 8, 3), np.uint8)
    pixels[2:4] = 1
    Image.fromarray(pixels).save(path, format="PNG" if mask or path.suffix.lower() == ".png" else "JPEG")


@pytest.fixture
def masks(project: Path, tmp_path: Path) -> Path:
    """Images `images/0.jpg` to `images/3.jpg` with masks `masks/0.png` to `masks/3.png`."""
    root = tmp_path / "media"
    for i in range(4):
        draw(root / f"images/{i}.jpg")
        draw(root / f"masks/{i}.png", mask=True)
    return root


def init(images: Path, masks: Path, *words: str) -> int:
    return call(["data", "init", "field", "--images", str(images), "--semantic-dir", str(masks), *words])


def files(images: Path, masks: Path) -> dict[str, list[str]]:
    """The images of each split of a dataset that is described, checked and prepared without a fault."""
    assert init(images, masks) == 0
    assert check("field", workers=1).lines() == []
    download("field")
    folder = prepare("field", workers=1)
    found = {}
    for split in ("train", "val"):
        found[split] = [row["file_name"] for row in read_csv(folder / f"files_{split}.csv", "listing")]
    return found


def warnings(capsys: Captured) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]


def test_sound_folders_give_no_warning(masks: Path, capsys: Captured) -> None:
    assert files(masks / "images", masks / "masks") == {
        "train": ["1.jpg", "2.jpg", "3.jpg"],
        "val": ["0.jpg"],
    }
    assert call(["data", "check", "field"]) == 0
    assert warnings(capsys) == []


def test_images_behind_links_to_folders_are_used(masks: Path) -> None:
    for name in ("images", "masks"):
        (masks / f"linked_{name}").mkdir()
        (masks / f"linked_{name}/all").symlink_to(masks / name)
    found = files(masks / "linked_images", masks / "linked_masks")
    assert found == {"train": ["all/1.jpg", "all/2.jpg", "all/3.jpg"], "val": ["all/0.jpg"]}


def test_droppings_are_left_out_and_counted(masks: Path, capsys: Captured) -> None:
    draw(masks / "images/.ipynb_checkpoints/3-checkpoint.jpg")
    draw(masks / "masks/.ipynb_checkpoints/3-checkpoint.png", mask=True)
    draw(masks / "images/@eaDir/3.jpg/SYNOPHOTO_THUMB_M.jpg")
    (masks / "images/._1.jpg").write_bytes(b"ghost")
    found = files(masks / "images", masks / "masks")
    assert sorted(found["train"] + found["val"]) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    capsys.readouterr()
    assert call(["data", "check", "field"]) == 0
    lines = warnings(capsys)
    assert len(lines) == 2
    counts = "2 hidden (first: '._1.jpg'), 1 made by the operating system or a tool (first: '@eaDir/')"
    assert f"warning: {masks}/images: left out: {counts}" in lines


def test_suffixes_in_capital_letters_count(masks: Path) -> None:
    (masks / "images/1.jpg").rename(masks / "images/1.JPG")
    (masks / "masks/1.png").rename(masks / "masks/1.PNG")
    assert files(masks / "images", masks / "masks")["train"] == ["1.JPG", "2.jpg", "3.jpg"]


def test_of_a_pair_in_one_folder_the_png_is_the_mask(masks: Path) -> None:
    for path in (masks / "masks").iterdir():
        path.rename(masks / "images" / path.name)
    found = files(masks / "images", masks / "images")
    assert found == {"train": ["1.jpg", "2.jpg", "3.jpg"], "val": ["0.jpg"]}


def test_a_folder_of_masks_inside_that_of_the_images_contains_no_images(masks: Path) -> None:
    for i in range(4):
        draw(masks / f"all/{i}.png")
    (masks / "masks").rename(masks / "all/masks")
    found = files(masks / "all", masks / "all/masks")
    assert found == {"train": ["1.png", "2.png", "3.png"], "val": ["0.png"]}


@pytest.mark.parametrize(("folder", "extra"), [("images", "2.png"), ("masks", "2.PNG")])
def test_two_files_of_one_stem_are_refused(masks: Path, capsys: Captured, folder: str, extra: str) -> None:
    assert init(masks / "images", masks / "masks") == 0
    draw(masks / folder / extra, mask=folder == "masks")
    assert any(
        all(name in line for name in sorted({f"2.{'jpg' if folder == 'images' else 'png'}", extra}))
        and "have the same name without suffix" in line
        for line in check("field", workers=1).lines()
    )
    Path("params/datasets/field.yaml").unlink()
    Path("params/runs/field.yaml").unlink()
    assert init(masks / "images", masks / "masks") == 2
    assert "have the same name without suffix" in capsys.readouterr().err
    assert not Path("params/datasets/field.yaml").exists()


def test_images_and_masks_without_a_partner_are_counted(masks: Path, capsys: Captured) -> None:
    (masks / "masks/1.png").unlink()
    (masks / "images/2.jpg").unlink()
    assert init(masks / "images", masks / "masks") == 0
    lines = warnings(capsys)
    assert any("1 of 3 images have no PNG" in line and "'1.jpg'" in line for line in lines)
    assert any("1 of 3 PNGs have no image" in line and "'2.png'" in line for line in lines)
    assert len(check("field", workers=1).lines()) == 2


def test_masks_that_are_named_otherwise_are_refused(masks: Path, capsys: Captured) -> None:
    for path in list((masks / "masks").iterdir()):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    assert init(masks / "images", masks / "masks") == 2
    assert "such as 0.jpg and 0_mask.png" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a\nb", "-x", "$HOME #'\"", "{0} %s"])
def test_strange_file_names_work(masks: Path, name: str) -> None:
    (masks / "images/1.jpg").rename(masks / f"images/{name}.jpg")
    (masks / "masks/1.png").rename(masks / f"masks/{name}.png")
    found = files(masks / "images", masks / "masks")
    assert f"{name}.jpg" in found["train"] + found["val"]


@pytest.mark.parametrize("name", ["$HOME", "${HOME}", "-d", "a\nb", "d{x}#'\"", "~d"])
def test_strange_folder_names_work(masks: Path, name: str) -> None:
    root = masks.rename(masks.with_name(name))
    assert len(files(root / "images", root / "masks")["train"]) == 3


def test_a_message_with_a_strange_name_is_one_line(masks: Path, capsys: Captured) -> None:
    assert init(masks / "images", masks / "masks") == 0
    draw(masks / "images/a\n\x1b[2Jb.jpg")
    capsys.readouterr()
    assert call(["data", "check", "field"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2  # the fault, and the summary
    assert "masks/a\\n\\x1b[2Jb.png: semantic PNG not found" in lines[0]


def test_names_that_are_not_utf8_are_refused_in_one_line(masks: Path, capsys: Captured) -> None:
    os.rename(masks / "images/1.jpg", os.fsencode(masks / "images") + b"/\xe9.jpg")
    assert init(masks / "images", masks / "masks") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "images/\\udce9.jpg: the name is not valid UTF-8; rename the file" in line
    root = Path(os.fsdecode(os.fsencode(masks.parent) + b"/caf\xe9"))
    masks.rename(root)
    assert init(root / "images", root / "masks") == 2
    assert all("rename it" in line for line in capsys.readouterr().err.splitlines())


@pytest.mark.parametrize("name", ["Field", "a b", "../up", "-x", "", "a\nb", "x" * 200])
def test_a_dataset_name_that_cannot_be_used_is_refused_in_one_line(
    masks: Path, capsys: Captured, name: str
) -> None:
    words = ["--images", str(masks / "images"), "--semantic-dir", str(masks / "masks"), "--", name]
    assert call(["data", "init", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "use up to 100 small letters, digits" in line
    assert "params/" not in line


def png_of_bits(path: Path, pixels: np.ndarray, bits: int) -> None:
    """Write a grey PNG of 1, 2 or 4 bits, which hold the numbers as they are."""
    height, width = pixels.shape
    each = np.unpackbits(pixels[..., None].astype(np.uint8), axis=-1)[..., -bits:]
    lines = np.packbits(each.reshape(height, -1), axis=-1)
    body = zlib.compress(b"".join(b"\0" + line.tobytes() for line in lines))
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)),
        (b"IDAT", body),
        (b"IEND", b""),
    ]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_masks_of_few_bits_hold_the_numbers_of_classes(masks: Path, bits: int) -> None:
    pixels = np.zeros((6, 8), np.uint8)
    pixels[2:4], pixels[4:] = 1, 2**bits - 1
    for i in range(4):
        png_of_bits(masks / f"masks/{i}.png", pixels, bits)
    files(masks / "images", masks / "masks")
    categories = load_dataset("field").categories
    assert categories is not None
    assert [category.id for category in categories] == sorted({0, 1, 2**bits - 1})
