"""Annotation that would be lost in silence is reported with numbers; nothing left to learn is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from small_datasets import Own

from kmax.cli.main import call
from kmax.data.datasets import open_prepared
from kmax.data.download.download_dataset import download
from kmax.data.prepare.check_dataset import check
from kmax.data.prepare.prepare_dataset import prepare
from kmax.errors import InputError

Captured = pytest.CaptureFixture[str]
Json = dict[str, Any]


def warnings(capsys: Captured) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]


# ----------------------------------------------------------------------------------------------------- masks


def masks(root: Path, *values: int) -> list[str]:
    """Options for four images whose masks have equal parts of some values."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    pixels = np.repeat(np.array(values, np.uint8), 4)[None].repeat(6, 0)
    for i in range(4):
        Image.fromarray(np.zeros((*pixels.shape, 3), np.uint8)).save(root / f"images/{i}.jpg")
        Image.fromarray(pixels).save(root / f"masks/{i}.png")
    return ["--images", str(root / "images"), "--semantic-dir", str(root / "masks")]


def test_masks_of_0_and_255_are_refused_unless_255_is_a_class(
    project: Path, tmp_path: Path, capsys: Captured
) -> None:
    words = masks(tmp_path / "media", 0, 255)
    assert call(["data", "init", "field", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for part in ("one stuff category, 'class_0'", "255 is taken as void (no label), 50.0%", "--void none"):
        assert part in line
    assert not Path("params/datasets/field.yaml").exists()
    assert call(["data", "init", "field", *words, "--void", "none"]) == 0
    assert check("field", workers=1).lines() == []
    download("field")
    prepare("field", workers=1)
    assert [c.id for c in open_prepared("field").categories] == [0, 255]


def test_the_share_of_void_is_reported(project: Path, tmp_path: Path, capsys: Captured) -> None:
    words = masks(tmp_path / "media", 0, 1, 2, 255)
    assert call(["data", "init", "field", *words]) == 0
    (line,) = warnings(capsys)
    assert "255 is taken as void (no label): 25.0% of the pixels" in line
    (line,) = check("field", workers=1).warnings
    assert "25.0%" in line


def test_another_value_is_void_on_request(project: Path, tmp_path: Path, capsys: Captured) -> None:
    words = masks(tmp_path / "media", 0, 1, 255)
    assert call(["data", "init", "field", *words, "--void", "0"]) == 0
    source = yaml.safe_load(Path("params/datasets/field.yaml").read_text())
    assert source["source"]["void"] == 0
    assert [category["id"] for category in source["categories"]] == [1, 255]
    assert call(["data", "init", "other", *words, "--void", "black"]) == 2
    assert "--void black: expected a number from 0 on, or none" in capsys.readouterr().err


@pytest.mark.parametrize(("values", "part"), [((0,), "one stuff category"), ((255,), "all pixels are 255")])
def test_masks_of_one_value_are_refused(
    project: Path, tmp_path: Path, capsys: Captured, values: tuple[int, ...], part: str
) -> None:
    assert call(["data", "init", "field", *masks(tmp_path / "media", *values)]) == 2
    assert part in capsys.readouterr().err


def test_masks_that_lost_their_classes_later_are_refused_by_prepare(project: Path, tmp_path: Path) -> None:
    words = masks(tmp_path / "media", 0, 1)
    assert call(["data", "init", "field", *words]) == 0
    for path in (tmp_path / "media/masks").iterdir():
        Image.fromarray(np.array(Image.open(path)) * np.uint8(255)).save(path)
    path = Path("params/datasets/field.yaml")
    path.write_text(path.read_text().replace("- id: 1\n", "- id: 7\n"))
    (line,) = check("field", workers=1).lines()
    assert "nothing to learn" in line
    assert "change 'void' in params/datasets/field.yaml" in line
    download("field")
    with pytest.raises(InputError, match="nothing to learn"):
        prepare("field", workers=1)


# ------------------------------------------------------------------------------------------------- instances


@pytest.fixture
def instances(project: Path, tmp_path: Path) -> Path:
    """An instance JSON of three images with a disc and a box each."""
    root = tmp_path / "media"
    (root / "images").mkdir(parents=True)
    value: Json = {"images": [], "annotations": [], "categories": []}
    value["categories"] = [{"id": 1, "name": "disc"}, {"id": 2, "name": "box"}]
    for i in range(3):
        Image.fromarray(np.zeros((10, 12, 3), np.uint8)).save(root / f"images/{i}.png")
        value["images"].append({"id": i, "file_name": f"{i}.png", "width": 12, "height": 10})
        for category, x in ((1, 1), (2, 6)):
            square = [x, 1, x + 3, 1, x + 3, 4, x, 4]
            entry = {
                "id": 10 * i + category,
                "image_id": i,
                "category_id": category,
                "segmentation": [square],
            }
            value["annotations"].append(entry | {"area": 9, "bbox": [x, 1, 3, 3], "iscrowd": 0})
    (root / "instances.json").write_text(json.dumps(value))
    return root


def edited(root: Path, change: Callable[[Json], object]) -> list[str]:
    """Options for the dataset with an edited JSON."""
    path = root / "instances.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    return ["--images", str(root / "images"), "--instances-json", str(path)]


def segmentations(value: Json, *regions: object) -> None:
    for entry, region in zip(value["annotations"], regions, strict=False):
        entry["segmentation"] = region


@pytest.mark.parametrize("name", ["background", "Background", "_background_"])
def test_a_background_of_the_json_is_the_background(instances: Path, name: str) -> None:
    words = edited(instances, lambda value: value["categories"].append({"id": 0, "name": name}))
    assert call(["data", "init", "field", *words]) == 0
    assert check("field", workers=1).warnings == []
    download("field")
    prepare("field", workers=1)
    found = [(c.id, c.name, c.isthing) for c in open_prepared("field").categories]
    assert found == [(1, "disc", True), (2, "box", True), (0, name, False)]


def test_polygons_without_area_are_left_out_and_counted(instances: Path, capsys: Captured) -> None:
    square = [6, 1, 9, 1, 9, 4, 6, 4]
    words = edited(
        instances, lambda value: segmentations(value, [[1, 1, 2, 2]], [square, [1, 1]], [], [[], square])
    )
    assert call(["data", "init", "field", *words]) == 0
    expected = [
        f"{words[-1]}: polygons of fewer than 3 points are left out: 3 (first: annotation 1)",
        f"{words[-1]}: annotations with an empty 'segmentation' are left out: 2 of 6 (first: annotation 1)",
    ]
    assert warnings(capsys) == [f"warning: {line}" for line in expected]
    faults = check("field", workers=1)
    assert (faults.lines(), faults.warnings) == ([], expected)
    download("field")
    prepare("field", workers=1)
    assert open_prepared("field").split("train").num_images == 2


@pytest.mark.parametrize(
    ("region", "reason"),
    [
        ([[1, 2, 3]], "part 0 has 3 numbers, which are not pairs"),
        ([[1, 1, 5, 5, "x", 1]], "part 0 is not a list of numbers"),
        ("mask", "it is 'mask'"),
        (None, "it is missing"),
    ],
)
def test_a_malformed_segmentation_names_the_annotation(
    instances: Path, capsys: Captured, region: object, reason: str
) -> None:
    words = edited(instances, lambda value: segmentations(value, region))
    assert call(["data", "init", "field", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "annotations[0] (id 1, image 0)" in line
    assert line.endswith(f"'segmentation' is neither a run-length encoding nor polygons: {reason}")


def test_images_without_annotation_are_counted(instances: Path, capsys: Captured) -> None:
    words = edited(instances, lambda value: value["annotations"].__delitem__(slice(4, None)))
    assert call(["data", "init", "field", *words]) == 0
    (line,) = warnings(capsys)
    assert "1 of 3 images have no annotation; they are 'background'" in line


def test_instances_of_no_image_are_refused(instances: Path, capsys: Captured) -> None:
    words = edited(instances, lambda value: value.update(annotations=[]))
    assert call(["data", "init", "field", *words]) == 2
    assert "one stuff category, 'background': nothing to learn" in capsys.readouterr().err


def test_categories_that_are_only_crowds_are_counted(instances: Path, capsys: Captured) -> None:
    words = edited(instances, lambda value: [entry.update(iscrowd=1) for entry in value["annotations"]])
    assert call(["data", "init", "field", *words]) == 0
    (line,) = warnings(capsys)
    assert "2 of 3 categories have no segments for training: 'disc', 'box'; 2 of them have crowds" in line


# -------------------------------------------------------------------------------------------------- panoptic


def describe(own: Own) -> list[str]:
    return ["data", "init", "field", "--images", str(own.root / "images"), "--panoptic-json", str(own.json())]


def test_categories_without_segments_are_named(own: Own, capsys: Captured) -> None:
    own.edit(lambda value: value["categories"].append({"id": 5, "name": "cone", "isthing": 1}))
    own.edit(lambda value: value["categories"].append({"id": 5, "name": "cone", "isthing": 1}), "val")
    assert call(describe(own)) == 0
    line = "1 of 3 categories has no segments for training: 'cone'"
    assert f"warning: {own.json()}: {line}" in warnings(capsys)
    assert check("own", workers=1).warnings == [f"{own.json()}: {line}"]
    download("own")
    prepare("own", workers=1)
    assert f"warning: {own.json()}: {line}" in warnings(capsys)


def test_images_that_the_json_lacks_are_counted(own: Own, capsys: Captured) -> None:
    own.image(2).rename(own.image(9))
    assert call(describe(own)) == 0
    lines = warnings(capsys)
    assert any("1 of 3 images of" in line and "not found (first: 'train2.png')" in line for line in lines)
    assert any("4 of 6 images are not in the JSON, and are not used" in line for line in lines)


def test_a_folder_without_the_images_of_the_json_is_refused(own: Own, capsys: Captured) -> None:
    own.edit(
        lambda value: [image.update(file_name=f"images/{image['file_name']}") for image in value["images"]]
    )
    assert call(describe(own)) == 2
    assert "contains none of the 3 images of" in capsys.readouterr().err


@pytest.mark.parametrize("crowd", [True, False])
def test_crowds_or_empty_images_alone_are_refused(own: Own, capsys: Captured, crowd: bool) -> None:
    def change(value: Json) -> None:
        for entry in value["annotations"]:
            for segment in entry["segments_info"]:
                segment["iscrowd"] = 1
            entry["segments_info"] = entry["segments_info"] if crowd else []

    own.edit(change)
    reason = "only crowds" if crowd else "no segments"
    assert any(reason in line and str(own.json()) in line for line in check("own", workers=1).lines())
    assert call(describe(own)) == 2
    assert f"the training split has {reason}" in capsys.readouterr().err


def test_a_holdout_of_one_image_is_reported_and_not_prepared(own: Own, capsys: Captured) -> None:
    own.edit(lambda value: value.update(images=value["images"][:1], annotations=value["annotations"][:1]))
    assert call(describe(own)) == 0
    line = f"{own.json()}: 1 image, which is held out for validation, so that none is left for training"
    assert any(line in warning for warning in warnings(capsys))
    assert any(line in warning for warning in check("field", workers=1).warnings)
    assert call(["data", "download", "field"]) == 0
    capsys.readouterr()
    assert call(["data", "prepare", "field"]) == 2
    faults = capsys.readouterr().err
    assert line in faults
    assert "no image is left for the split 'train'" in faults
    assert not Path("data/prepared/field").exists()


# ---------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("di\nsc", "'di sc', contains a line break"),
        ("disc\r\n", "'disc', starts or ends with white space and contains a line break"),
        ("a\tb", "'a b', contains control characters"),
        ("\x00", "'\\x00', contains control characters"),
        ("\u202edisc", "'\\u202edisc', contains invisible characters"),
        ("", "'', is empty"),
        ("x" * 300, "has 300 characters"),
        ("\ud800", "is not valid Unicode"),
    ],
)
def test_a_doubtful_name_is_reported_in_one_line(own: Own, capsys: Captured, name: str, reason: str) -> None:
    for split in ("train", "val"):
        own.edit(lambda value: value["categories"][1].update(name=name), split)
    assert call(describe(own)) == 0
    line = next(line for line in warnings(capsys) if "the name of category 3" in line)
    assert reason in line
    assert call(["data", "check", "own"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line
    assert call(["data", "download", "own"]) == call(["data", "prepare", "own"]) == 0
    assert open_prepared("own").categories[0].name == name.replace("\ud800", "\ufffd")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("ground", "the same name, 'ground'"), ("GROUND", "similar names: 'GROUND', 'ground'")],
)
def test_categories_of_one_name_are_reported(own: Own, name: str, reason: str) -> None:
    for split in ("train", "val"):
        own.edit(lambda value: value["categories"][1].update(name=name), split)
    assert check("own", workers=1).warnings == [f"{own.json()}: 2 categories (ids 3, 20) have {reason}"]
