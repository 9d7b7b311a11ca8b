"""Whatever a file holds, the readers return or refuse it in words; nothing else escapes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from run_entries import sections

from kmax.config import Run
from kmax.data.dataset_file import Dataset
from kmax.data.formats.coco_panoptic import read_map
from kmax.data.formats.coco_panoptic_json import read_panoptic_json
from kmax.data.prepare.check_dataset import check_files
from kmax.errors import InputError
from kmax.parameter_files import load

ROOT = Path(__file__).resolve().parents[3]
MANY = settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEGMENT = {"id": 1, "category_id": 1, "area": 4, "bbox": [0, 0, 2, 2], "iscrowd": 0}
PANOPTIC = {
    "categories": [{"id": 1, "name": "a", "isthing": 1, "color": [1, 2, 3]}],
    "images": [{"id": 1, "file_name": "1.jpg", "width": 2, "height": 2}],
    "annotations": [{"image_id": 1, "file_name": "1.png", "segments_info": [SEGMENT]}],
}
BOX = {"iscrowd": 0, "area": 1, "bbox": [0, 0, 1, 1]}
INSTANCES = {
    "categories": [{"id": 1, "name": "a"}],
    "images": [{"id": 1, "file_name": "1.png", "width": 2, "height": 2}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 1, 0, 1, 1]], **BOX},
        {"id": 2, "image_id": 1, "category_id": 1, "segmentation": {"size": [2, 2], "counts": [1, 3]}, **BOX},
        {"id": 3, "image_id": 1, "category_id": 1, "segmentation": {"size": [2, 2], "counts": "13"}, **BOX},
    ],
}
RUN = sections("shapes-smoke") | {"run": "shapes-smoke"}
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def replaced(value: Any, data: st.DataObject) -> Any:
    """The value with one thing in it, at any depth, replaced, removed or doubled."""
    inside = isinstance(value, dict | list) and value and data.draw(st.integers(0, 4)) > 0
    if not inside:
        return data.draw(VALUES)
    copy = value.copy()
    place = data.draw(st.sampled_from(list(copy) if isinstance(copy, dict) else range(len(copy))))
    change = data.draw(st.integers(0, 9))
    if change == 0:
        del copy[place]
    elif change == 1 and isinstance(copy, list):
        copy.append(copy[place])
    else:
        copy[place] = replaced(copy[place], data)
    return copy


def damaged(content: bytes, data: st.DataObject) -> bytes:
    """The bytes with some of them overwritten, or cut off."""
    found = bytearray(content)
    for _ in range(data.draw(st.integers(0, 4))):
        found[data.draw(st.integers(0, len(found) - 1))] = data.draw(st.integers(0, 255))
    return bytes(found[: data.draw(st.integers(0, len(found)) | st.just(len(found)))])


def read_or_refused(read: Callable[[Path], Any], path: Path) -> None:
    """Read the file; a refusal names it in every line."""
    faults: list[str] = []
    try:
        read(path)
    except InputError as error:
        faults = error.faults
    assert all(str(path) in fault for fault in faults)


@pytest.mark.long
@MANY
@given(data=st.data())
def test_a_panoptic_json_is_read_or_refused_in_words(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "panoptic.json"
    path.write_bytes(damaged(json.dumps(replaced(PANOPTIC, data)).encode(), data))
    read_or_refused(read_panoptic_json, path)


@pytest.mark.long
@MANY
@given(data=st.data())
def test_a_panoptic_png_is_read_or_refused_in_words(tmp_path: Path, data: st.DataObject) -> None:
    whole = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(whole, format="PNG")
    path = tmp_path / "map.png"
    path.write_bytes(damaged(whole.getvalue(), data))
    read_or_refused(read_map, path)


@pytest.mark.long
@MANY
@given(data=st.data())
def test_a_run_file_is_read_or_refused_in_words(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "run.yaml"
    text = yaml.safe_dump(replaced(RUN, data), sort_keys=False).encode()
    path.write_bytes(damaged(text, data))
    read_or_refused(partial(load, Run), path)


@pytest.mark.long
@MANY
@given(data=st.data())
def test_instance_annotation_is_painted_or_its_faults_are_reported(
    tmp_path: Path, data: st.DataObject
) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "1.png")
    path = tmp_path / "instances.json"
    path.write_bytes(damaged(json.dumps(replaced(INSTANCES, data)).encode(), data))
    splits = {"train": {"images": ".", "instances_json": path.name}}
    place = {"root": str(tmp_path), "folder": "own", "files": []}
    source = {"kind": "coco_instances", "splits": splits, "background": "rest", **place}
    about = {"dataset": "own", "description": "", "licence": "", "citation": None, "categories": None}
    for line in check_files(Dataset.model_validate({**about, "source": source}), tmp_path, workers=1).lines():
        assert str(tmp_path) in line or line.startswith("... and ")
