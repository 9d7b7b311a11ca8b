"""Any value anywhere in the JSON files is evaluated or gives an error message, never a traceback."""

import contextlib
import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from panoptic_folder import files, halves, write_side
from pycocotools import mask as masks

from kmax.errors import InputError
from kmax.evaluation import coco_ap
from kmax.evaluation.panoptic import deeplab2, pq
from kmax.evaluation.semantic import miou

STRANGE = [
    *(None, True, -1, 0, 2.5, 2**70, 10**400, float("nan"), float("inf")),
    *("", "x", "\0", "..", [], {}, [1], {"a": []}),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to everything inside a JSON value."""
    if path:
        yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in inside:
        yield from places(entry, (*path, key))


def changed(value: Any, path: tuple[Any, ...], strange: Any) -> Any:
    value = copy.deepcopy(value)
    target = value
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = strange
    return value


def survive(function: Callable[[], Any]) -> None:
    with contextlib.suppress(InputError):
        json.dumps(function().to_json(), allow_nan=False)


@pytest.mark.parametrize("side", ["gt", "pred"])
def test_panoptic_json(side: str, tmp_path: Path) -> None:
    for name, ids in (("gt", halves(1, 2)), ("pred", halves(3, 4))):
        write_side(tmp_path, name, {1: (ids, dict(zip(np.unique(ids).tolist(), (1, 9), strict=True)))})
    path = tmp_path / f"{side}.json"
    sound = json.loads(path.read_text())
    evaluators = (pq.evaluate_files, miou.evaluate_files, deeplab2.evaluate_files)
    for number, place in enumerate(places(sound)):
        for strange in STRANGE:
            path.write_text(json.dumps(changed(sound, place, strange)))
            survive(lambda number=number: evaluators[number % 3](files(tmp_path)))


def detections() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    mask = np.zeros((12, 14), np.uint8)
    mask[2:9, 3:11] = 1
    encoded = masks.encode(np.asfortranarray(mask))
    region = {"size": [12, 14], "counts": encoded["counts"].decode()}
    entry = {"image_id": 1, "category_id": 3, "segmentation": region}
    truth = {
        "images": [{"id": 1, "height": 12, "width": 14}],
        "categories": [{"id": 3, "name": "car"}],
        "annotations": [{**entry, "id": 1, "area": 56, "bbox": [3, 2, 8, 7], "iscrowd": 0}],
    }
    return truth, [
        {**entry, "score": 0.5, "bbox": [3, 2, 8, 7]},
        {**entry, "score": 0.4, "bbox": [1, 1, 5, 5]},
    ]


TRUTH, FOUND = detections()


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
@pytest.mark.parametrize("side", ["gt", "pred"])
def test_coco_json(side: str, iou_type: Any, tmp_path: Path) -> None:
    sound = {"gt": TRUTH, "pred": FOUND}
    paths = {name: tmp_path / f"{name}.json" for name in sound}
    for name, path in paths.items():
        path.write_text(json.dumps(sound[name]))
    for place in places(sound[side]):
        for strange in STRANGE:
            paths[side].write_text(json.dumps(changed(sound[side], place, strange)))
            survive(lambda: coco_ap.evaluate_files(paths["gt"], paths["pred"], iou_type))
