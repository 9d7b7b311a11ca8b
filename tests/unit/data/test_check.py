import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_datasets import Own, few_shapes

from kmax.cli.main import call
from kmax.data.download.download_dataset import download
from kmax.data.faults import MAX_LINES
from kmax.data.formats.coco_panoptic import read_map, write_map
from kmax.data.prepare.check_dataset import check
from kmax.data.prepare.prepare_dataset import prepare
from kmax.errors import InputError


def test_a_sound_dataset_has_no_faults(own: Own) -> None:
    assert check("own").lines() == []


def test_a_prepared_generated_dataset_has_no_faults(project: Path) -> None:
    few_shapes(train=3, val=2)
    download("few")
    folder = prepare("few")
    assert check("few").lines() == []
    (folder / "images_val" / "000001.png").unlink()
    (fault,) = check("few").lines()
    assert fault.endswith("images_val/000001.png: image not found")


def resave(path: Path, **options) -> None:
    Image.open(path).save(path, **options)


def turn(own: Own) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    resave(own.image(), exif=exif)


def turn_and_state_turned(own: Own) -> None:
    turn(own)
    own.edit(lambda value: value["images"][0].update(width=20, height=30))


def repaint(own: Own, old: int, new: int) -> None:
    ids = read_map(own.png())
    ids[ids == old] = new
    write_map(own.png(), ids)


def deep(own: Own) -> None:
    Image.fromarray(np.zeros((20, 30), np.uint16)).save(own.image())


def deep_rgb(width: int, height: int) -> bytes:
    """A black PNG of three channels of 16 bits, which Pillow cannot write but reads as one of 8 bits."""
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0),
        b"IDAT": zlib.compress(bytes(height * (1 + 6 * width))),
        b"IEND": b"",
    }
    chunks = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts.items()
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def segment_of(value: dict, **changes) -> None:
    value["annotations"][0]["segments_info"][1].update(changes)


FAULTS = {
    "missing image": (lambda own: own.image().unlink(), ["images/train0.png: image not found"]),
    "truncated image": (
        lambda own: own.image().write_bytes(own.image().read_bytes()[:700]),
        ["images/train0.png: image cannot be read"],
    ),
    "empty image file": (
        lambda own: own.image().write_bytes(b""),
        ["images/train0.png: image cannot be read: not an image"],
    ),
    "truncated JPEG": (lambda own: cut_jpeg(own), ["train0.png: image cannot be read"]),
    "16-bit image": (deep, ["train0.png: image has more than 8 bits"]),
    "image of another size": (
        lambda own: own.edit(lambda value: value["images"][0].update(width=31)),
        ["images/train0.png: image is 30x20, the JSON says 31x20"],
    ),
    "image too large to read": (
        lambda own: own.edit(lambda value: value["images"][0].update(width=10**8, height=10**8)),
        ["train.json: images[0]: image train0.png is too large", "annotation of unknown image 0"],
    ),
    "EXIF rotation": (turn, ["images/train0.png: has an EXIF rotation"]),
    "size as turned by EXIF": (
        turn_and_state_turned,
        ["image is 30x20, the JSON says 20x30, which is its size after applying its EXIF rotation"],
    ),
    "missing PNG": (lambda own: own.png().unlink(), ["train/train0.png: panoptic PNG not found"]),
    "grey PNG": (
        lambda own: Image.fromarray(np.zeros((20, 30), np.uint8)).save(own.png()),
        ["train/train0.png: panoptic PNG is not 8-bit RGB"],
    ),
    "16-bit PNG": (
        lambda own: own.png().write_bytes(deep_rgb(30, 20)),
        ["train/train0.png: panoptic PNG is not 8-bit RGB"],
    ),
    "PNG without its end": (
        lambda own: own.png().write_bytes(own.png().read_bytes()[:-12]),
        ["train/train0.png: panoptic PNG cannot be read: truncated"],
    ),
    "PNG of another size": (
        lambda own: write_map(own.png(), np.pad(read_map(own.png()), ((0, 1), (0, 0)))),
        ["train/train0.png: panoptic PNG is 30x21, the image 30x20"],
    ),
    "id in the PNG alone": (
        lambda own: repaint(own, 0, 99),
        ["train/train0.png: ids 99 are in the PNG but not in the JSON"],
    ),
    "id in the JSON alone": (
        lambda own: repaint(own, 70000, 0),
        ["train/train0.png: segment 70000 is in the JSON but not in the PNG"],
    ),
    "area": (
        lambda own: own.edit(lambda value: segment_of(value, area=61)),
        ["train/train0.png: segment 70000 has 60 pixels, the JSON says 61"],
    ),
    "unknown category": (
        lambda own: own.edit(lambda value: segment_of(value, category_id=555)),
        ["train.json: image 0: segment 70000: unknown category 555"],
    ),
    "segment id twice": (
        lambda own: own.edit(lambda value: segment_of(value, id=7)),
        ["duplicate segment id 7", "ids 70000 are in the PNG but not in the JSON"],
    ),
    "image id twice": (
        lambda own: own.edit(lambda value: value["images"].append(value["images"][0])),
        ["train.json: images[3]: duplicate image id 0"],
    ),
    "image file twice": (
        lambda own: own.edit(lambda value: value["images"].append(value["images"][0] | {"id": 9})),
        ["train.json: images[3]: duplicate image file train0.png"],
    ),
    "empty image": (
        lambda own: (
            own.edit(lambda value: value["annotations"][0].update(segments_info=[])),
            write_map(own.png(), np.zeros((20, 30), int)),
        ),
        ["images/train0.png: image has no segments"],
    ),
    "image without annotation": (
        lambda own: own.edit(lambda value: value["annotations"].pop(0)),
        ["train.json: image 0 (train0.png) has no annotation"],
    ),
    "annotation without image": (
        lambda own: own.edit(lambda value: value["images"].pop(0)),
        ["train.json: annotations[0]: annotation of unknown image 0"],
    ),
    "another category": (
        lambda own: own.edit(lambda value: value["categories"].append({"id": 8, "name": "x", "isthing": 1})),
        ["val.json: category 8 of"],
    ),
    "no JSON": (
        lambda own: own.json().write_text("{"),
        ["train.json: panoptic JSON cannot be read as JSON"],
    ),
}


def cut_jpeg(own: Own) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).save(own.image(), format="JPEG")
    own.image().write_bytes(own.image().read_bytes()[:-300])


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_is_reported_and_nothing_else(own: Own, kind: str) -> None:
    damage, expected = FAULTS[kind]
    damage(own)
    found = check("own", workers=1).lines()
    assert len(found) == len(expected), found
    for part in expected:
        assert any(part in line for line in found), found


def test_one_fault_hides_no_other(own: Own) -> None:
    own.image(0).unlink()
    deepest = own.png(2)
    deepest.write_bytes(deepest.read_bytes()[:60])
    own.edit(lambda value: value["annotations"][0]["segments_info"][1].update(area=1), "val")
    found = "\n".join(check("own", workers=1).lines())
    for part in ("train0.png: image not found", "train2.png: panoptic PNG cannot be read", "the JSON says 1"):
        assert part in found


def test_of_each_kind_the_first_lines_are_reported_and_all_are_counted(
    own: Own, capsys: pytest.CaptureFixture[str]
) -> None:
    def many(value: dict) -> None:
        value["annotations"] += [{"image_id": 100 + i} | NO_SEGMENTS for i in range(50)]
        value["images"][0]["width"] += 1

    own.edit(many)
    assert call(["data", "check", "own"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert sum("annotation of unknown image" in line for line in lines) == MAX_LINES
    assert "... and 30 more annotations without image" in lines
    assert any("image is 30x20, the JSON says 31x20" in line for line in lines)
    assert lines[-1] == "own: 1 sizes that disagree, 50 annotations without image"


NO_SEGMENTS = {"file_name": "none.png", "segments_info": []}


def test_a_missing_json_does_not_hide_the_other_split(own: Own) -> None:
    own.json("train").unlink()
    (own.root / "images" / "val1.png").unlink()
    faults = check("own").lines()
    assert any("train.json: panoptic JSON not found" in fault for fault in faults)
    assert any("val1.png: image not found" in fault for fault in faults)


def test_a_dataset_without_images_is_a_fault(own: Own) -> None:
    own.edit(lambda value: value.update(images=[], annotations=[]))
    assert any("no annotated images" in fault for fault in check("own").lines())


def test_categories_must_agree_with_the_dataset_file(own: Own) -> None:
    path = Path("params/datasets/own.yaml")
    listed = "[{id: 3, name: crate, isthing: true, color: [1, 2, 3]}]"
    path.write_text(path.read_text().replace("categories: null", f"categories: {listed}"))
    faults = "\n".join(check("own").lines())
    assert "category 20 is not in params/datasets/own.yaml" in faults
    assert "category 3 is 'box' (thing), in params/datasets/own.yaml 'crate' (thing)" in faults


def test_an_absent_folder_is_one_clear_error(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KMAX_DATA_ROOT", "/nowhere")
    with pytest.raises(InputError, match=r"/nowhere/own: folder of dataset 'own' not found"):
        check("own")


def test_a_variable_set_for_the_download_alone_is_reported_by_the_next_verbs(
    own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    download("own")  # writes data/raw/own/manifest.json, so that this folder is there
    monkeypatch.delenv("KMAX_DATA_ROOT")
    for verb in (check, prepare):
        with pytest.raises(InputError, match=r"JSON of dataset .own. not found; for every command"):
            verb("own")
