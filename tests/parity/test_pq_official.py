"""Panoptic quality against the numbers of panopticapi."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from panoptic_cases import evaluate_case, largest_deviation

from kmax.data.formats.coco_panoptic import write_map
from kmax.errors import InputError
from kmax.evaluation.panoptic.panoptic_files import PanopticArguments
from kmax.evaluation.panoptic.pq import evaluate_files

HERE = Path(__file__).resolve().parents[1] / "golden" / "metrics"
CARRIED = sorted(path.name for path in (HERE / "pq").iterdir() if path.is_dir())
REAL = [
    "ade20k_mini_train_perturbed",
    "api_examples_identity",
    "api_examples_perturbed",
    "category_absent",
    "cityscapes_mini_val_perturbed",
    "coco_mini_val_perturbed",
    "no_prediction_segments",
    "random_small_mixed",
    "wrong_category",
]
ODD = {
    "crowd_two_same_category": "several crowd segments",
    "extra_image_and_duplicate": "two entries for one image",
    "gt_json_area_is_used": "JSON area",
    "gt_png_json_disagree": "without JSON entry",
    "prediction_id_zero": "id 0",
}
REFUSED = {
    "gt_without_iscrowd": ["image 3", "segment 11", "iscrowd"],
    "json_id_not_in_png": ["image 3", "segment 99", "category 2"],
    "missing_image": ["image 7"],
    "png_id_not_in_json": ["image 3", "segment 21"],
    "pred_folder_missing": ["folder"],
    "pred_png_gray": ["000000000003.png", "RGB"],
    "pred_png_missing": ["pred", "not found"],
    "size_mismatch": ["image 3", "60x38", "60x40"],
    "unknown_category": ["image 3", "segment 21", "category 77"],
}
ACCEPTED = {"duplicate_pred_id": "two entries of one segment id", "gt_unknown_category": "unknown category"}


@pytest.mark.parametrize("name", CARRIED)
def test_rules_in_miniature(name: str) -> None:
    assert largest_deviation(*evaluate_case(HERE / "pq" / name)) <= 1e-9


@pytest.mark.parametrize("name", REAL)
def test_real_images(golden: Path, name: str) -> None:
    assert largest_deviation(*evaluate_case(golden / "metrics/pq" / name, golden.parent)) <= 1e-9


def test_every_recorded_case_is_checked(golden: Path) -> None:
    recorded = {path.name for path in (golden / "metrics/pq").iterdir() if path.is_dir()}
    assert recorded == {*CARRIED, *REAL}


def test_processes_give_the_same_numbers(golden: Path) -> None:
    case = golden / "metrics/pq/coco_mini_val_perturbed"
    one, two = (evaluate_case(case, golden.parent, workers=workers)[0] for workers in (1, 2))
    assert one.to_json() == two.to_json()


@pytest.mark.parametrize("name", CARRIED)
def test_odd_input_is_told_and_refused_when_strict(name: str) -> None:
    result, _ = evaluate_case(HERE / "pq" / name)
    if name not in ODD:
        assert result.warnings == []
        return
    assert any(ODD[name] in line for line in result.warnings)
    with pytest.raises(InputError, match=ODD[name]):
        evaluate_case(HERE / "pq" / name, strict=True)


def test_every_malformed_case_is_checked() -> None:
    assert {path.name for path in (HERE / "pq_errors").iterdir()} == {*REFUSED, *ACCEPTED}


@pytest.mark.parametrize("name", REFUSED)
def test_malformed_input_is_refused_by_name(name: str) -> None:
    with pytest.raises(InputError) as caught:
        evaluate_case(HERE / "pq_errors" / name)
    first = caught.value.lines()[0]
    assert all(part in first for part in REFUSED[name]), first


@pytest.mark.parametrize("name", ACCEPTED)
def test_input_that_the_official_evaluator_ignores_is_a_warning(name: str) -> None:
    result, _ = evaluate_case(HERE / "pq_errors" / name)
    assert any(ACCEPTED[name] in line for line in result.warnings)


def test_200_images_by_rule(golden: Path, tmp_path: Path) -> None:
    expected = json.loads((golden / "metrics/pq_stress/expected.json").read_text())
    categories = json.loads((golden / "metrics/facts/coco_133.json").read_text())
    categories = categories["categories"] if isinstance(categories, dict) else categories
    categories = sorted(categories, key=lambda category: category["id"])
    sides: dict[str, list[dict]] = {"gt": [], "pred": []}
    for index in range(expected["images"]):
        maps, segments = stress_image(expected["seed"] + index, categories)
        check = expected["generator_check"].get(str(index))
        for side, ids in maps.items():
            if check:
                assert (
                    hashlib.sha256(ids.astype("<u4").tobytes()).hexdigest() == check[f"{side}_uint32_sha256"]
                )
            write_map(tmp_path / side / f"{index}.png", ids)
            entry = {"image_id": index, "file_name": f"{index}.png", "segments_info": segments[side]}
            sides[side].append(entry)
    for side, annotations in sides.items():
        content = {"categories": categories, "annotations": annotations}
        (tmp_path / f"{side}.json").write_text(json.dumps(content))
    files = (tmp_path / "gt.json", tmp_path / "gt", tmp_path / "pred.json", tmp_path / "pred")
    assert largest_deviation(evaluate_files(PanopticArguments(*files, workers=2)), expected) <= 1e-9


def stress_image(seed: int, categories: list[dict]) -> tuple[dict[str, np.ndarray], dict[str, list[dict]]]:
    """The rule of the recorded stress set, see its README."""
    r = np.random.RandomState(seed)
    truth = np.zeros((480, 640), np.uint32)
    facts = {}
    for k in range(1, 16):
        c, y, x = r.randint(0, 133), r.randint(0, 440), r.randint(0, 600)
        h, w, z = r.randint(20, 240), r.randint(20, 320), r.randint(0, 20)
        truth[y : y + h, x : x + w] = k
        facts[k] = (categories[c], z)
    predicted = np.zeros_like(truth)
    classes = {}
    for k in range(1, 16):
        dy, dx = r.randint(-12, 13), r.randint(-12, 13)
        act, alt = r.randint(0, 10), r.randint(0, 133)
        rows, columns = np.nonzero(truth == k)
        if not len(rows) or act == 0:
            continue
        inside = (rows + dy >= 0) & (rows + dy < 480) & (columns + dx >= 0) & (columns + dx < 640)
        predicted[rows[inside] + dy, columns[inside] + dx] = k
        classes[k] = categories[alt] if act == 1 else facts[k][0]
    for k in (16, 17):
        c, y, x = r.randint(0, 133), r.randint(0, 440), r.randint(0, 600)
        h, w = r.randint(10, 80), r.randint(10, 80)
        predicted[y : y + h, x : x + w] = k
        classes[k] = categories[c]
    ids = {
        "gt": np.where(truth > 0, 1000 * truth + 7, 0),
        "pred": np.where(predicted > 0, 1000 * predicted + 9, 0),
    }
    truth_segments = [
        {
            "id": 1000 * k + 7,
            "category_id": facts[k][0]["id"],
            "area": int((truth == k).sum()),
            "iscrowd": int(facts[k][0]["isthing"] and facts[k][1] == 0),
        }
        for k in np.unique(truth[truth > 0]).tolist()
    ]
    predicted_segments = [
        {"id": 1000 * k + 9, "category_id": classes[k]["id"]}
        for k in np.unique(predicted[predicted > 0]).tolist()
    ]
    return ids, {"gt": truth_segments, "pred": predicted_segments}
