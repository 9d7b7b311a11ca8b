"""The COCO AP evaluator on invalid and unusual input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as masks

from kmax.data.formats.coco_regions import decode_run_lengths
from kmax.errors import InputError
from kmax.evaluation.coco_ap import evaluate_files


def encode(mask: np.ndarray) -> dict[str, Any]:
    encoded = masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    mask = np.zeros((40, 50), bool)
    mask[3:33, 5:44] = True
    box, area = [5.0, 3.0, 39.0, 30.0], int(mask.sum())
    truth = {
        "images": [{"id": 1, "height": 40, "width": 50}, {"id": 2, "height": 40, "width": 50}],
        "categories": [{"id": 3, "name": "car"}, {"id": 4, "name": "bus"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 3,
                "segmentation": encode(mask),
                "area": area,
                "bbox": box,
                "iscrowd": 0,
            }
        ],
    }
    found = [{"image_id": 1, "category_id": 3, "score": 0.9, "segmentation": encode(mask)}]
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "pred.json").write_text(json.dumps(found))
    return tmp_path


def evaluate(folder: Path, **options: object) -> dict[str, Any]:
    return evaluate_files(folder / "gt.json", folder / "pred.json", **options).to_json()


def edit(path: Path, change: Any) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_perfect_detection_scores_one(folder: Path) -> None:
    figures = evaluate(folder)
    assert figures["ap"] == pytest.approx(1.0)
    assert figures["ap_small"] is None
    assert figures["per_category"]["4"]["ap"] is None
    assert figures["provenance"]["images"] == 2
    assert evaluate(folder, iou_type="bbox")["ap"] == pytest.approx(1.0)


def test_no_detections_score_zero(folder: Path) -> None:
    (folder / "pred.json").write_text("[]")
    assert evaluate(folder)["ap"] == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d[0].update(image_id=9), "another split"),
        (lambda d: d[0].update(image_id="1"), "another split"),
        (lambda d: d[0].update(score=float("nan")), "'score' is nan"),
        (lambda d: d[0].update(score="0.9"), "not a finite number"),
        (lambda d: d[0].pop("score"), "'score' is None"),
        (lambda d: d[0].pop("category_id"), "'category_id' is missing"),
        (lambda d: d[0].update(category_id=77), "category 77): the ground truth has no such category"),
        (lambda d: d[0].pop("segmentation"), "neither 'segmentation' nor 'bbox'"),
        (lambda d: d[0]["segmentation"].update(size=[4, 5]), "the image is 50x40"),
        (lambda d: d[0]["segmentation"].update(counts="zz"), "malformed or does not cover the image"),
        (lambda d: d[0]["segmentation"].update(counts=[2000]), "malformed"),
        (lambda d: d[0].update(segmentation=[[1, 2, 3, 4, 5, 6]]), "is not a run-length encoding"),
        (lambda d: d.insert(0, {**d[0], "bbox": [0, 0, 1, 1]}), "some detections have 'bbox'"),
        (lambda d: d[0].update(bbox=[0, 0, 1e9, 1], segmentation=None), "the box is far outside the image"),
    ],
)
def test_faults_of_detections(folder: Path, change: Any, message: str) -> None:
    edit(folder / "pred.json", change)
    with pytest.raises(InputError) as caught:
        evaluate(folder)
    assert len(caught.value.faults) == 1
    assert message in caught.value.faults[0]
    assert "detection" in caught.value.faults[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("images"), "'images' is missing or not a list"),
        (lambda t: t["images"][0].pop("height"), "images[0]: 'height'"),
        (lambda t: t["annotations"][0].update(image_id=[]), "'image_id' is missing or neither"),
        (lambda t: t["annotations"][0].pop("category_id"), "'category_id' is missing or neither"),
        (lambda t: t["annotations"][0].update(area=None), "'area' is missing or not a finite number"),
        (lambda t: t["images"][0].update(id="one"), "some ids are numbers and others strings"),
        (lambda t: t["images"][0].update(height=10**7), "the limit is 178956970 pixels"),
        (lambda t: t["annotations"][0].pop("iscrowd"), "'iscrowd' is neither 0 nor 1"),
        (lambda t: t["annotations"][0].pop("segmentation"), "neither a run-length encoding nor polygons"),
        (lambda t: t["annotations"].append(t["annotations"][0]), "a duplicate"),
    ],
)
def test_faults_of_the_ground_truth(folder: Path, change: Any, message: str) -> None:
    edit(folder / "gt.json", change)
    with pytest.raises(InputError) as caught:
        evaluate(folder)
    assert message in caught.value.faults[0]


def test_detections_of_another_split_are_one_fault(folder: Path) -> None:
    edit(folder / "pred.json", lambda d: d.extend([{**d[0], "image_id": 7 + i} for i in range(50)]))
    with pytest.raises(InputError) as caught:
        evaluate(folder)
    assert len(caught.value.faults) == 50
    edit(folder / "pred.json", lambda d: d.pop(0))
    with pytest.raises(InputError) as caught:
        evaluate(folder)
    assert caught.value.faults == [
        f"{folder}/pred.json: detections JSON: none of its images, such as image 7, is among the 2 of the "
        "ground truth; is it another split?"
    ]


@pytest.mark.parametrize("text", ["", "{}", "[1]", "null", "["])
def test_json_that_is_not_a_list_of_detections(folder: Path, text: str) -> None:
    (folder / "pred.json").write_text(text)
    with pytest.raises(InputError, match=r"pred\.json"):
        evaluate(folder)


def test_annotation_id_zero_is_a_warning(folder: Path) -> None:
    """The official evaluator treats a match with it as none."""
    edit(folder / "gt.json", lambda t: t["annotations"][0].update(id=0))
    result = evaluate_files(folder / "gt.json", folder / "pred.json")
    assert result.to_json()["ap"] == 0.0
    assert "id 0" in result.warnings[0]
    with pytest.raises(InputError, match="id 0"):
        evaluate(folder, strict=True)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 30), st.floats(0, 1))
def test_run_lengths_are_those_of_the_mask(seed: int, height: int, width: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    column = mask.reshape(-1, order="F")
    lengths = decode_run_lengths(encode(mask)["counts"])
    assert lengths.sum() == column.size
    assert (np.repeat(np.arange(len(lengths)) % 2 == 1, lengths) == column).all()


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(min_codepoint=40, max_codepoint=120), max_size=20))
def test_any_text_is_decoded_or_refused(text: str) -> None:
    assert decode_run_lengths(text) is None or decode_run_lengths(text).dtype == np.int64


def test_unknown_keys_of_a_detection_are_ignored(folder: Path) -> None:
    edit(folder / "pred.json", lambda found: found[0].update(caption="a car", keypoints=[1, 2, 2]))
    assert evaluate(folder)["ap"] == pytest.approx(1)


def test_an_image_listed_twice_is_a_warning_and_counts_once(folder: Path) -> None:
    edit(folder / "gt.json", lambda truth: truth["images"].append(truth["images"][0]))
    result = evaluate_files(folder / "gt.json", folder / "pred.json")
    assert result.warnings == ["ground truth: duplicate entry of images (id 1)"]
    assert result.to_json()["provenance"]["images"] == 2


def floats(value: Any) -> Any:
    """The same JSON with all whole numbers as floats."""
    if isinstance(value, dict):
        return {key: floats(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [floats(entry) for entry in value]
    return float(value) if type(value) is int else value


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_whole_numbers_may_be_floats(folder: Path, iou_type: str) -> None:
    """Also sizes and run lengths, which compiled code reads."""
    edit(folder / "pred.json", lambda found: found.append({**found[0], "image_id": 2}))
    lengths = [5 * 40 + 3, *[30, 10] * 38, 30, 7 + 6 * 40]
    region = {"size": [40, 50], "counts": lengths}
    edit(folder / "gt.json", lambda truth: truth["annotations"][0].update(segmentation=region))
    expected = evaluate(folder, iou_type=iou_type)
    for name in ("gt", "pred"):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(floats(json.loads(path.read_text()))))
    result = evaluate_files(folder / "gt.json", folder / "pred.json", iou_type)
    found = result.to_json()
    assert 0 < found["ap"] < 1
    assert {**found, "provenance": None} == {**expected, "provenance": None}
    assert [line.split(" (")[0] for line in result.warnings] == [
        "ground truth: numbers in another form, such as 1.0, are read as whole numbers",
        "detections: numbers in another form, such as 1.0, are read as whole numbers",
    ]
    with pytest.raises(InputError, match="numbers in another form"):
        evaluate(folder, iou_type=iou_type, strict=True)


@pytest.mark.parametrize(("key", "kind"), [("image_id", "image"), ("category_id", "category")])
def test_annotations_of_unlisted_images_and_categories_are_ignored(folder: Path, key: str, kind: str) -> None:
    other = {"id": 9, "image_id": 1, "category_id": 3, "iscrowd": 0, key: 77}
    edit(folder / "gt.json", lambda truth: truth["annotations"].append(other))
    result = evaluate_files(folder / "gt.json", folder / "pred.json")
    assert result.to_json()["ap"] == pytest.approx(1)
    assert f"an annotation of an unlisted {kind} is ignored" in result.warnings[0]


def test_what_is_not_evaluated_may_be_missing_or_of_any_type(folder: Path) -> None:
    truth, found = (json.loads((folder / f"{name}.json").read_text()) for name in ("gt", "pred"))
    truth["annotations"][0] |= {"bbox": "none", "score": "high"}
    (folder / "gt.json").write_text(json.dumps(truth))
    assert evaluate(folder)["ap"] == pytest.approx(1)
    truth["annotations"][0] |= {"bbox": [5, 3, 39, 30], "segmentation": None}
    found[0] |= {"bbox": [5, 3, 39, 30], "segmentation": "none"}
    (folder / "gt.json").write_text(json.dumps(truth))
    (folder / "pred.json").write_text(json.dumps(found))
    assert evaluate(folder, iou_type="bbox")["ap"] == pytest.approx(1)


def test_a_crowd_needs_no_area(folder: Path) -> None:
    crowd = {"iscrowd": 1, "id": 7, "category_id": 4, "area": None}
    edit(folder / "gt.json", lambda truth: truth["annotations"].append({**truth["annotations"][0], **crowd}))
    figures = evaluate(folder)
    assert figures["ap"] == pytest.approx(1)
    assert figures["per_category"]["4"]["ap"] is None


def test_detections_with_boxes_may_have_polygons(folder: Path) -> None:
    polygon = [[5, 3, 44, 3, 44, 33, 5, 33]]
    edit(folder / "pred.json", lambda found: found[0].update(bbox=[5, 3, 39, 30], segmentation=polygon))
    assert evaluate(folder)["ap"] == pytest.approx(1)


def test_ids_may_be_strings_and_below_zero(folder: Path) -> None:
    other = {'_id": 3': '_id": -3', '{"id": 3': '{"id": -3', 'image_id": 1': 'image_id": "b"'}
    other |= {'{"id": 1, "height': '{"id": "b", "height', '{"id": 2, "height': '{"id": "a", "height'}
    for path in (folder / "gt.json", folder / "pred.json"):
        text = path.read_text()
        for old, new in other.items():
            text = text.replace(old, new)
        path.write_text(text)
    figures = evaluate(folder)["per_category"]
    assert figures["-3"]["ap"] == pytest.approx(1)
    assert figures["4"]["ap"] is None
