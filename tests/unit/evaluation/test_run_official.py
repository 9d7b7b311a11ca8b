"""AP and mean IoU of a run by the rules of its dataset, from files that the predict stage writes."""

import json
from pathlib import Path

import numpy as np
import pytest
from official_runs import NAMES, official_run
from perfect_run import perfect_run
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kmax import paths
from kmax.errors import InputError
from kmax.evaluation.run.evaluation_stage import evaluate_run

FOLDER = paths.predictions("small")


def figures(run) -> dict:
    return json.loads(evaluate_run(run, {}).read_text())


def test_cityscapes_scores_instances_and_labels_of_whole_frames(tmp_path: Path, monkeypatch) -> None:
    run = official_run("cityscapes", tmp_path, monkeypatch)
    metrics = figures(run)
    assert metrics["ap"]["ap"] == metrics["miou"]["miou"] == metrics["miou"]["iiou"] == 1.0
    assert "ap_box" not in metrics
    assert "cityscapesscripts" in metrics["provenance"]["evaluator"]["ap"]
    assert metrics["ap"]["provenance"]["images"] == metrics["miou"]["provenance"]["images"] == 2
    # A wrong label of one frame moves the counts of that image alone.
    path = FOLDER / "semantic" / NAMES["cityscapes"][1]
    labels = np.array(Image.open(path))
    labels[labels == 23] = 11
    Image.fromarray(labels).save(path)
    counts = np.load(paths.per_image("small"))
    before, sky = counts["pixels_intersection"], counts["category_ids"].tolist().index(23)
    assert figures(run)["miou"]["miou"] < 1.0
    after = np.load(paths.per_image("small"))["pixels_intersection"]
    assert (before[0] == after[0]).all()
    assert before[1, sky] > 0
    assert after[1, sky] == 0


def test_ade20k_judges_labels_against_its_own(tmp_path: Path, monkeypatch) -> None:
    metrics = figures(official_run("ade20k", tmp_path, monkeypatch))
    assert metrics["miou"]["averages"]["classes in ground truth"] == 1.0
    assert "ADE20K" in metrics["miou"]["provenance"]["evaluator"]
    assert metrics["intervals"]["miou"] == [1.0, 1.0]


def test_coco_judges_instances_against_its_own_annotation(tmp_path: Path, monkeypatch) -> None:
    run = official_run("coco", tmp_path, monkeypatch)
    metrics = figures(run)
    truth = COCO(str(tmp_path / "root/coco/annotations/instances_val2017.json"))
    found = truth.loadRes(str(FOLDER / "instances.json"))
    for name, iou_type in (("ap", "segm"), ("ap_box", "bbox")):
        official = COCOeval(truth, found, iou_type)
        official.evaluate()
        official.accumulate()
        official.summarize()
        assert metrics[name]["ap"] == pytest.approx(official.stats[0], abs=1e-12)
    assert metrics["ap"]["ap"] < 1.0
    own = run.model_copy(update={"evaluate": run.evaluate.model_copy(update={"ap": "panoptic_annotation"})})
    assert figures(own)["ap"]["ap"] == 1.0


@pytest.mark.parametrize(
    ("dataset", "name", "message"),
    [
        (
            "coco",
            "root/coco/annotations/instances_val2017.json",
            "instances_val2017.json: not found .* own_anno",
        ),
        ("coco", "predictions/instances.json", "instances.json: detections JSON not found"),
        ("cityscapes", f"predictions/semantic/{NAMES['cityscapes'][0]}", "aa_000000_000019: no prediction"),
        (
            "cityscapes",
            "predictions/instances/bb/bb_000001_000019_leftImg8bit.txt",
            "bb_000001_000019: no pred",
        ),
        (
            "cityscapes",
            "predictions/instances/aa/aa_000000_000019_leftImg8bit_000.png",
            "_000.png: .* not found",
        ),
        ("ade20k", "predictions/semantic/ADE_val_00000002.png", "ADE_val_00000002: predicted PNG not found"),
        (
            "ade20k",
            "root/ADEChallengeData2016/annotations/validation/ADE_val_00000001.png",
            "only in one of them",
        ),
    ],
)
def test_missing_files_are_named(tmp_path: Path, monkeypatch, dataset: str, name: str, message: str) -> None:
    run = official_run(dataset, tmp_path, monkeypatch)
    (tmp_path / name.replace("predictions", str(FOLDER), 1)).unlink()
    with pytest.raises(InputError, match=message) as caught:
        evaluate_run(run, {})
    assert len(caught.value.faults) == 1
    assert not paths.metrics("small").exists()


def test_annotation_of_another_split_is_refused(tmp_path: Path, monkeypatch) -> None:
    run = official_run("coco", tmp_path, monkeypatch)
    path = tmp_path / "root/coco/annotations/instances_val2017.json"
    value = json.loads(path.read_text())
    value["images"] = value["images"][:1]
    value["annotations"] = [a for a in value["annotations"] if a["image_id"] == value["images"][0]["id"]]
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match=r"does not contain 1 of the 2 images, such as 285 .* another split"):
        evaluate_run(run, {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 999}, "image 999.* no such image; is it another split"),
        ({"score": float("nan")}, "'score' is nan"),
        ({"category_id": 10**30}, r"category 10{30}\): the ground truth has no such category"),
        ({"segmentation": {"size": [9, 9], "counts": "a"}}, "mask of size"),
    ],
)
def test_invalid_detections_are_refused(tmp_path: Path, monkeypatch, change: dict, message: str) -> None:
    run = perfect_run(tmp_path, monkeypatch)
    path = FOLDER / "instances.json"
    results = json.loads(path.read_text())
    results[0] |= change
    path.write_text(json.dumps(results))
    with pytest.raises(InputError, match=message):
        evaluate_run(run, {})


@pytest.mark.parametrize("damage", ["truncated", "size", "label", "colour"])
def test_corrupt_labels_are_refused(tmp_path: Path, monkeypatch, damage: str) -> None:
    run = perfect_run(tmp_path, monkeypatch)
    path = sorted((FOLDER / "semantic").iterdir())[2]
    labels = np.array(Image.open(path))
    match damage:
        case "truncated":
            path.write_bytes(path.read_bytes()[:-20])
        case "size":
            Image.fromarray(labels[1:]).save(path)
        case "label":
            labels[0, 0] = 250
            Image.fromarray(labels).save(path)
        case "colour":
            Image.fromarray(np.stack([labels] * 3, -1)).save(path)
    with pytest.raises(InputError, match=f"{path.name}: image 3") as caught:
        evaluate_run(run, {})
    assert len(caught.value.faults) == 1
