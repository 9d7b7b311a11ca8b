"""The panoptic quality evaluator on invalid and unusual input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from panoptic_folder import files, halves, write_side
from PIL import Image

from kmax.errors import InputError
from kmax.evaluation.panoptic.pq import evaluate_files

SOUND = {number: (halves(1, 2), {1: 1, 2: 9}) for number in range(1, 13)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_side(tmp_path, "gt", SOUND)
    write_side(tmp_path, "pred", SOUND)
    return tmp_path


def edit(path: Path, change: object) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def first_segment(content: dict[str, Any]) -> dict[str, Any]:
    return content["annotations"][0]["segments_info"][0]


def faults(folder: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        evaluate_files(files(folder))
    return caught.value.lines()


def test_perfect_predictions_score_one(folder: Path) -> None:
    figures = evaluate_files(files(folder)).to_json()
    assert figures["all"] == {"pq": 1.0, "sq": 1.0, "rq": 1.0, "n": 2}
    assert figures["per_category"]["7"]["tp"] == 0


def test_all_images_are_looked_at_and_twenty_faults_shown(folder: Path) -> None:
    write_side(folder, "pred", {number: (halves(1, 3), {1: 1, 2: 9}) for number in SOUND})
    lines = faults(folder)
    assert len(lines) == 21
    assert "image 1: segment 3" in lines[0]
    assert lines[-1] == "... and 4 more"


def test_truncated_png_is_named(folder: Path) -> None:
    path = folder / "pred" / "4.png"
    path.write_bytes(path.read_bytes()[:45])
    assert str(path) in faults(folder)[0]


def test_the_image_of_a_grey_png_is_named(folder: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "pred" / "4.png")
    assert faults(folder) == [
        f"{folder}/pred/4.png: image 4: panoptic PNG is not 8-bit RGB; segment ids need three channels"
    ]


def test_ids_of_another_type_are_explained(folder: Path) -> None:
    edit(folder / "pred.json", lambda c: [a.update(image_id=str(a["image_id"])) for a in c["annotations"]])
    assert "same type" in faults(folder)[0]


def test_predictions_of_another_split(folder: Path) -> None:
    edit(folder / "pred.json", lambda c: [a.update(image_id=a["image_id"] + 900) for a in c["annotations"]])
    lines = faults(folder)
    assert len(lines) == 1
    assert "none of its 12 images" in lines[0]
    assert "another split" in lines[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("annotations"), "'annotations' is missing"),
        (lambda c: c["annotations"][0].pop("file_name"), "'file_name' is missing"),
        (lambda c: c["annotations"][0].pop("segments_info"), "'segments_info' is missing"),
        (
            lambda c: c["annotations"][0]["segments_info"][0].update(id=2**24),
            "not a whole number in 0..16777215",
        ),
        (
            lambda c: c["annotations"][0]["segments_info"][0].update(id="1"),
            "not a whole number in 0..16777215",
        ),
        (lambda c: c["annotations"][0]["segments_info"][0].pop("category_id"), "unknown category None"),
        (lambda c: c["annotations"].pop(), "image 12: no prediction"),
    ],
)
def test_malformed_prediction_json(folder: Path, change: object, message: str) -> None:
    edit(folder / "pred.json", change)
    lines = faults(folder)
    assert len(lines) == 1
    assert message in lines[0]


@pytest.mark.parametrize("text", ["", "[]", '{"annotations": 3}', "{"])
def test_json_that_is_not_panoptic_json(folder: Path, text: str) -> None:
    (folder / "pred.json").write_text(text)
    assert "pred.json" in faults(folder)[0]


def test_missing_area_is_refused_where_a_match_needs_it(folder: Path) -> None:
    edit(folder / "gt.json", lambda c: c["annotations"][0]["segments_info"][0].pop("area"))
    assert "image 1" in faults(folder)[0]
    assert "segment 1" in faults(folder)[0]


def test_unusual_input_gives_one_warning_per_kind_and_one_fault_per_case_if_strict(folder: Path) -> None:
    edit(
        folder / "gt.json",
        lambda c: [a["segments_info"][0].update(area=30) for a in c["annotations"][:3]],
    )
    kind = "ground truth: the JSON area differs from the number of pixels and is used"
    places = [f"image {number} segment 1 category 1" for number in (1, 2, 3)]
    assert evaluate_files(files(folder)).warnings == [f"{kind} (3 times, first: {places[0]})"]
    with pytest.raises(InputError) as caught:
        evaluate_files(files(folder, strict=True))
    assert caught.value.faults == [f"{kind} ({place})" for place in places]


def test_ground_truth_without_images_is_refused(folder: Path) -> None:
    edit(folder / "gt.json", lambda content: content.update(annotations=[]))
    assert faults(folder) == [f"{folder}/gt.json: the ground truth JSON has no annotations"]


def test_empty_prediction_misses_everything(folder: Path) -> None:
    empty = (np.zeros((8, 8), np.int32), {})
    write_side(folder, "pred", dict.fromkeys(SOUND, empty))
    figures = evaluate_files(files(folder)).to_json()
    assert figures["all"] == {"pq": 0.0, "sq": 0.0, "rq": 0.0, "n": 2}
    assert figures["per_category"]["9"]["fn"] == 12


@pytest.mark.parametrize("key", ["image_id", "id", "category_id", "area", "iscrowd"])
@pytest.mark.parametrize("side", ["gt", "pred"])
def test_whole_numbers_may_be_floats(folder: Path, side: str, key: str) -> None:
    """One segment of another category and one of another area show that the figures stay the same."""
    edit(folder / "pred.json", lambda c: first_segment(c).update(category_id=7))
    edit(folder / "gt.json", lambda c: first_segment(c).update(area=30))
    expected = evaluate_files(files(folder))

    def change(content: dict[str, Any]) -> None:
        for entry in content["annotations"]:
            for one in (entry, *entry["segments_info"]):
                one |= {name: float(number) for name, number in one.items() if name == key}

    edit(folder / f"{side}.json", change)
    found = evaluate_files(files(folder))
    assert found.to_json()["per_category"] == expected.to_json()["per_category"]
    assert found.image_ids == expected.image_ids
    name = {"gt": "ground truth", "pred": "predictions"}[side]
    numbers = {"image_id": 12, "id": 24, "category_id": 24}.get(key)
    warnings = [line for line in found.warnings if "in another form" in line]
    assert [line.split(":")[0] for line in warnings] == ([name] if numbers else [])
    assert not numbers or f"{numbers} numbers" in warnings[0]


def test_ids_of_categories_may_be_floats_and_isthing_may_be_anything(folder: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for category, isthing in zip(content["categories"], (1.0, True, "no"), strict=True):
            category.update(id=float(category["id"]), isthing=isthing)

    edit(folder / "gt.json", change)
    result = evaluate_files(files(folder))
    assert [category.id for category in result.categories] == [1, 7, 9]
    assert [category.isthing for category in result.categories] == [True, True, False]
    assert result.group("all") == {"pq": 1, "sq": 1, "rq": 1, "n": 2}
    assert "'isthing' is neither 0 nor 1, and the category counts as stuff (category 9)" in result.warnings[0]


@pytest.mark.parametrize("area", [None, "5", 264.5, [1], 10**400])
def test_areas_of_predictions_are_not_read(folder: Path, area: object) -> None:
    extra = {"area": area, "bbox": None, "score": 0.5, "isthing": True}
    edit(folder / "pred.json", lambda c: first_segment(c).update(extra))
    assert evaluate_files(files(folder)).group("all")["pq"] == 1


def test_predictions_for_other_images_are_not_read(folder: Path) -> None:
    others = [{"image_id": 900}, {"image_id": None, "segments_info": 3}]
    edit(folder / "pred.json", lambda c: c["annotations"].extend(others))
    result = evaluate_files(files(folder))
    assert result.group("all")["pq"] == 1
    kind = "predictions: an image that is not in the ground truth is ignored"
    assert result.warnings == [f"{kind} (2 times, first: image None)"]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"area": None, "category_id": 7}, "an area is missing or not a number, but no match needs it"),
        ({"category_id": None}, "a segment of an unknown category is ignored"),
        ({"iscrowd": "1"}, "'iscrowd' is neither 0 nor 1 and counts as 0"),
    ],
)
def test_values_of_the_ground_truth_that_no_match_needs(
    folder: Path, change: dict[str, Any], kind: str
) -> None:
    edit(folder / "gt.json", lambda c: first_segment(c).update(change))
    result = evaluate_files(files(folder))
    assert f"ground truth: {kind}" in " ".join(result.warnings)
    assert result.to_json()["per_category"]["1"]["tp"] == (12 if "iscrowd" in change else 11)


@pytest.mark.parametrize("area", [None, "5", float("nan")])
def test_areas_that_a_match_needs_must_be_numbers(folder: Path, area: object) -> None:
    edit(folder / "gt.json", lambda c: first_segment(c).update(area=area))
    assert "ground truth segment 1: impossible area nan in the JSON" in faults(folder)[0]
