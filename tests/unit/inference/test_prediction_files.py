"""Formats of predictions: what is written is what evaluators read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kmax.config import Category
from kmax.errors import InputError
from kmax.inference.prediction_files import (
    check_frame_names,
    coco_results,
    write_cityscapes_instances,
    write_labels,
)
from kmax.inference.scored_instances import Instance

EMPTY = np.zeros((5, 7), np.bool_)


def categories(*ids: int) -> list[Category]:
    return [Category(id=number, name=str(number), isthing=True, color=[0, 0, 0]) for number in ids]


def test_labels_are_category_ids_of_as_many_bits_as_they_need(tmp_path: Path) -> None:
    classes = np.array([[0, 1, 1], [1, 0, 0]], np.int16)
    for ids, mode in (((0, 255), "L"), ((7, 300), "I;16")):
        write_labels(tmp_path / "city" / "a.png", classes, categories(*ids))
        with Image.open(tmp_path / "city" / "a.png") as image:
            assert image.mode == mode
            assert np.array_equal(np.asarray(image), np.array(ids)[classes])
    with pytest.raises(InputError, match="category id 65536 is too large"):
        write_labels(tmp_path / "b.png", classes, categories(1, 2**16))


def test_instances_without_pixels_are_left_out(tmp_path: Path) -> None:
    mask = EMPTY.copy()
    mask[1:3, 2:5] = True
    instances = [Instance(1, 0.9, EMPTY), Instance(0, 1 / 3, mask)]
    (result,) = coco_results(instances, 12, categories(24, 26))
    assert (result["image_id"], result["category_id"], result["score"]) == (12, 24, 1 / 3)
    assert result["segmentation"]["size"] == [5, 7]
    text = tmp_path / "aa" / "aa_000000_000001_leftImg8bit.txt"
    write_cityscapes_instances(text, instances, categories(24, 26))
    name, label, score = text.read_text().split()
    assert (label, float(score)) == ("24", 1 / 3)
    assert np.array_equal(np.asarray(Image.open(text.parent / name)), mask * np.uint8(255))


def test_a_frame_without_instances_has_an_empty_text(tmp_path: Path) -> None:
    write_cityscapes_instances(tmp_path / "new" / "a_1_2.txt", [], categories(24))
    assert (tmp_path / "new" / "a_1_2.txt").read_text() == ""


def test_frames_are_recognised_by_their_names() -> None:
    check_frame_names(["berlin/berlin_000000_000019_leftImg8bit.png"], "here")
    with pytest.raises(InputError) as caught:
        check_frame_names(["a_b_c.png", "x/one_000.png", "a_1_2.png"], "here")
    assert len(caught.value.faults) == 2
