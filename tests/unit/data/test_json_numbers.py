"""Whole numbers in the form of floats, in the JSON files of datasets."""

import json
from pathlib import Path
from typing import Any

import pytest
from small_datasets import Own

from kmax.data.download.download_dataset import download
from kmax.data.faults import Faults
from kmax.data.formats.coco_instance_json import instance_annotations
from kmax.data.formats.coco_json import read_header
from kmax.data.formats.coco_panoptic import NO_BOX, Image, JsonCategory
from kmax.data.formats.coco_panoptic_json import read_panoptic_json
from kmax.data.formats.json_numbers import whole
from kmax.data.layouts.coco_instances import paint
from kmax.data.prepare.check_dataset import check
from kmax.data.prepare.prepare_dataset import prepare


def floats(value: Any) -> Any:
    """The same JSON with all whole numbers as floats."""
    if isinstance(value, dict):
        return {key: floats(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [floats(entry) for entry in value]
    return float(value) if type(value) is int else value


def test_whole_numbers() -> None:
    assert [whole(value) for value in (3, 264.0, -0.0, 1e3)] == [3, 264, 0, 1000]
    assert all(type(whole(value)) is int for value in (3, 264.0, -0.0, 1e3, 1e300))
    unusable = (264.5, float("nan"), float("inf"), "3", None, True, [3], {})
    assert [whole(value) for value in unusable] == [None] * len(unusable)


def prepared(split: str = "train") -> bytes:
    assert check("own", workers=1).lines() == []
    download("own")
    return (prepare("own", workers=1) / f"panoptic_{split}.json").read_bytes()


def test_prepared_data_is_the_same_for_whole_numbers_as_floats(own: Own) -> None:
    expected = prepared()
    for split in ("train", "val"):
        own.json(split).write_text(json.dumps(floats(json.loads(own.json(split).read_text()))))
    assert prepared() == expected


def test_areas_with_a_fraction_disagree_and_boxes_with_a_fraction_are_measured(own: Own) -> None:
    def change(value: dict[str, Any], area: float) -> None:
        value["annotations"][0]["segments_info"][1].update(area=area, bbox=[4.5, 5.25, 10.0, 6.5])

    expected = prepared()
    own.edit(lambda value: change(value, 60.5))
    assert check("own", workers=1).lines() == [
        f"{own.png()}: segment 70000 has 60 pixels, the JSON says 60.5"
    ]
    own.edit(lambda value: change(value, 60.0))
    assert read_panoptic_json(own.json()).annotations[0].segments[1].bbox == NO_BOX
    assert prepared() == expected


@pytest.mark.parametrize("value", [1.5, True, "1", None, float("nan"), float("inf")])
@pytest.mark.parametrize("key", ["id", "category_id"])
def test_other_values_are_no_whole_numbers(own: Own, key: str, value: object) -> None:
    own.edit(lambda content: content["annotations"][0]["segments_info"][0].update({key: value}))
    wrong = f"'{key}' has the wrong type ({type(value).__name__})"
    assert [line for line in check("own", workers=1).lines() if wrong in line]


def test_lists_of_images_and_instances(tmp_path: Path) -> None:
    region = {"size": [10, 12], "counts": [0, 20, 100]}
    content = {
        "images": [{"id": 4, "file_name": "a.png", "width": 12, "height": 10}],
        "categories": [{"id": 3, "name": "square", "color": [1, 2, 3]}],
        "annotations": [{"id": 9, "image_id": 4, "category_id": 3, "segmentation": region, "iscrowd": 1}],
    }
    painted = []
    for number, value in enumerate((content, floats(content))):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(value))
        faults = Faults()
        header = read_header(path, "list of images", faults, isthing=True)
        (entry,) = instance_annotations(header, faults)
        assert faults.lines() == []
        assert repr(header.images) == repr({4: Image(4, "a.png", 12, 10)})
        assert repr(header.categories) == repr({3: JsonCategory(3, "square", True, (1, 2, 3))})
        listed = json.dumps([[entry["category_id"], bool(entry["iscrowd"]), entry["segmentation"]]]).encode()
        painted.append(paint(listed, None, (12, 10), []))
    assert repr(painted[0].segments) == repr(painted[1].segments)
    assert painted[0].segments[0].area == 20


def test_a_list_that_occurs_twice_is_refused(own: Own) -> None:
    text = own.json().read_text()
    own.json().write_text(text[:-1] + ', "annotations": []}')
    (line,) = {line for line in check("own", workers=1).lines() if "occurs twice" in line}
    assert "the key 'annotations' occurs twice" in line
