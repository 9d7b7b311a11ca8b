"""COCO average precision by hotcoco: bit-identical to pycocotools, and where pycocotools is used instead."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as masks

from kmax.evaluation import coco_ap

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "metrics" / "ap_coco"
SIZE = (40, 50)
Json = dict[str, Any]


def both(truth: Json, detections: list[Json], **options: Any) -> None:
    """Check that both engines give the same bytes."""
    hotcoco, pycocotools = (
        coco_ap.evaluate(truth, detections, **options, engine=engine) for engine in ("hotcoco", "pycocotools")
    )
    for name in ("precision", "recall"):
        ours, theirs = getattr(hotcoco, name), getattr(pycocotools, name)
        assert (ours.shape, ours.dtype, ours.tobytes()) == (theirs.shape, theirs.dtype, theirs.tobytes())
    assert hotcoco.category_ids == pycocotools.category_ids


def read(case: Path) -> tuple[Json, list[Json]]:
    truth, detections = (
        json.loads((case / f"{name}.json").read_text()) for name in ("gt_instances", "detections")
    )
    return truth, detections


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
@pytest.mark.parametrize("case", sorted(path.name for path in GOLDEN.iterdir() if path.is_dir()))
def test_recorded_cases(case: str, iou_type: str) -> None:
    for max_detections in (11, 100, 255):
        both(*read(GOLDEN / case), iou_type=iou_type, max_detections=max_detections)


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_recorded_real_images(golden: Path, iou_type: str) -> None:
    cases = [path for path in (golden / "metrics/ap_coco").iterdir() if path.is_dir()]
    assert len(cases) == 2
    for case in cases:
        both(*read(case), iou_type=iou_type)


@pytest.mark.parametrize("seed", range(30))
def test_random_cases(seed: int) -> None:
    truth, detections = random_case(np.random.default_rng(seed), names=seed % 5 == 1)
    if seed % 5 == 2:
        for entry in detections:
            entry["bbox"] = [-3.5, 2.25, seed / 4.0, 12.0]
            if entry["score"] > 0.5:
                del entry["segmentation"]
    if seed % 5 == 3:
        truth["images"].append(truth["images"][0])
        truth["categories"].append(truth["categories"][0])
    if seed % 5 == 4:
        detections, truth["annotations"] = detections * (seed % 2), truth["annotations"] * (seed % 3)
        truth["annotations"] = [entry | {"id": i} for i, entry in enumerate(truth["annotations"], start=1)]
    for iou_type in ("segm", "bbox"):
        for max_detections in (11, 255):
            both(truth, detections, iou_type=iou_type, max_detections=max_detections)


def test_input_is_unchanged_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    truth, detections = random_case(np.random.default_rng(0), names=False)
    before = json.dumps([truth, detections])
    both(truth, detections)
    assert json.dumps([truth, detections]) == before
    assert capfd.readouterr() == ("", "")


def test_pycocotools_computes_where_hotcoco_deviates_or_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, _ = random_case(np.random.default_rng(0), names=False)
    assert coco_ap._default_engine(truth) == "hotcoco"
    truth["annotations"][0]["id"] = 0
    assert coco_ap._default_engine(truth) == "pycocotools"
    truth["annotations"][0]["id"] = 1
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert coco_ap._default_engine(truth) == "pycocotools"


def random_case(rng: np.random.Generator, names: bool) -> tuple[Json, list[Json]]:
    """Ground truth with crowds and all kinds of regions, and detections with equal scores.

    Args:
        names: image ids are strings.
    """
    numbers = [int(number) for number in rng.permutation(1000)[:4]]
    images = [f"image {number}" if names else number for number in numbers]
    categories = [int(number) for number in rng.permutation(90)[:3] + 1]
    annotations: list[Json] = []
    detections: list[Json] = []
    for image in images:
        for _ in range(rng.integers(0, 6)):
            mask = random_mask(rng)
            encoded = masks.encode(mask)
            crowd = int(rng.random() < 0.2)
            entry = {"image_id": image, "category_id": int(rng.choice(categories)), "iscrowd": crowd}
            entry |= {"id": len(annotations) + 1, "bbox": masks.toBbox(encoded).tolist()}
            area = float(masks.area(encoded)) if rng.random() < 0.8 else float(rng.integers(20000))
            region = random_region(rng, mask, crowd=bool(crowd))
            annotations.append(entry | {"area": area, "segmentation": region})
        for _ in range(rng.integers(0, 20)):
            entry = {"image_id": image, "category_id": int(rng.choice(categories))}
            entry |= {"score": float(rng.choice([0.1, 0.5, 0.9, rng.random()]))}
            detections.append(entry | {"segmentation": compressed(random_mask(rng))})
    return {
        "images": [{"id": image, "height": SIZE[0], "width": SIZE[1]} for image in images],
        "categories": [{"id": category} for category in categories],
        "annotations": annotations,
    }, detections


def random_mask(rng: np.random.Generator) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8, order="F")
    y, x, height, width = rng.integers(0, 30), rng.integers(0, 40), *rng.integers(3, 40, 2)
    mask[y : y + height, x : x + width] = 1
    return mask


def random_region(rng: np.random.Generator, mask: np.ndarray, crowd: bool) -> Any:
    kind = rng.integers(3)
    if kind == 0 and not crowd:
        return [rng.uniform(-60, 110, 2 * int(rng.integers(3, 8))).tolist() for _ in range(2)]
    if kind == 1:
        column = mask.reshape(-1, order="F").astype(int)
        edges = np.flatnonzero(np.diff(column, prepend=0))
        return {"size": list(SIZE), "counts": np.diff([0, *edges, column.size]).tolist()}
    return compressed(mask)


def compressed(mask: np.ndarray) -> Json:
    encoded = masks.encode(mask)
    return {"size": list(SIZE), "counts": encoded["counts"].decode()}
