"""Panoptic quality by deeplab2's rules, where they differ from those of panopticapi."""

import json
from pathlib import Path

import numpy as np
from panoptic_folder import files, halves, write_side

from kmax.evaluation.panoptic import deeplab2, pq


def both(folder: Path) -> tuple[dict, dict]:
    return pq.evaluate_files(files(folder)).to_json(), deeplab2.evaluate_files(files(folder)).to_json()


def test_two_stuff_segments_of_a_class_are_one(tmp_path: Path) -> None:
    write_side(tmp_path, "gt", {1: (halves(1, 2), {1: 9, 2: 9})})
    write_side(tmp_path, "pred", {1: (halves(3, 3), {3: 9})})
    panopticapi, ours = both(tmp_path)
    assert panopticapi["all"]["pq"] == 0.0
    assert ours["all"]["pq"] == 1.0


def test_two_things_of_a_class_remain_two(tmp_path: Path) -> None:
    write_side(tmp_path, "gt", {1: (halves(1, 2), {1: 1, 2: 1})})
    write_side(tmp_path, "pred", {1: (halves(7, 5), {5: 1, 7: 1})})
    _, ours = both(tmp_path)
    assert ours["per_category"]["1"]["tp"] == 2


def test_crowd_is_void_to_every_class(tmp_path: Path) -> None:
    ids = halves(1, 2)
    write_side(tmp_path, "gt", {1: (ids, {1: 1, 2: 1})})
    content = json.loads((tmp_path / "gt.json").read_text())
    content["annotations"][0]["segments_info"][1]["iscrowd"] = 1
    (tmp_path / "gt.json").write_text(json.dumps(content))
    write_side(tmp_path, "pred", {1: (halves(3, 4), {3: 1, 4: 7})})
    panopticapi, ours = both(tmp_path)
    assert panopticapi["per_category"]["7"]["fp"] == 1  # the crowd is of another class
    assert ours["per_category"]["7"]["fp"] == 0
    assert ours["all"]["pq"] == 1.0


def test_areas_are_counted_pixels(tmp_path: Path) -> None:
    write_side(tmp_path, "gt", {1: (halves(1, 2), {1: 1, 2: 9})})
    content = json.loads((tmp_path / "gt.json").read_text())
    content["annotations"][0]["segments_info"][0]["area"] = 10_000
    (tmp_path / "gt.json").write_text(json.dumps(content))
    write_side(tmp_path, "pred", {1: (halves(1, 2), {1: 1, 2: 9})})
    panopticapi, ours = both(tmp_path)
    assert panopticapi["per_category"]["1"]["tp"] == 0
    assert ours["all"]["pq"] == 1.0


def test_void_predictions_are_not_a_segment(tmp_path: Path) -> None:
    write_side(tmp_path, "gt", {1: (halves(0, 2), {2: 9})})
    write_side(tmp_path, "pred", {1: (np.where(halves(0, 1) > 0, 5, 0), {5: 9})})
    _, ours = both(tmp_path)
    assert ours["all"] == {"pq": 1.0, "sq": 1.0, "rq": 1.0, "n": 1}
