"""Mean IoU against the numbers of the official evaluators, of label maps and of panoptic maps."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kmax.data.formats.coco_panoptic import write_map
from kmax.evaluation.cityscapes import cityscapes_miou
from kmax.evaluation.cityscapes.cityscapes_format import LABELS
from kmax.evaluation.panoptic.panoptic_files import PanopticArguments
from kmax.evaluation.semantic import label_maps
from kmax.evaluation.semantic.miou import MiouResult, evaluate_files


def evaluate_semantic(
    folder: Path, pairs: list[tuple[np.ndarray, np.ndarray]], num_classes: int
) -> MiouResult:
    """Mean IoU of maps of contiguous classes; -1 is void. One segment per class."""
    categories = [{"id": c, "name": str(c), "isthing": 0} for c in range(num_classes)]
    sides: dict[str, list[dict]] = {"gt": [], "pred": []}
    for number, maps in enumerate(pairs):
        for side, classes in zip(sides, maps, strict=True):
            write_map(folder / side / f"{number}.png", classes.astype(np.int32) + 1)
            segments = [
                {"id": c + 1, "category_id": c, "area": int((classes == c).sum()), "iscrowd": 0}
                for c in np.unique(classes[classes >= 0]).tolist()
            ]
            entry = {"image_id": number, "file_name": f"{number}.png", "segments_info": segments}
            sides[side].append(entry)
    for side, annotations in sides.items():
        content = {"categories": categories, "annotations": annotations}
        (folder / f"{side}.json").write_text(json.dumps(content))
    paths = folder / "gt.json", folder / "gt", folder / "pred.json", folder / "pred"
    return evaluate_files(PanopticArguments(*paths))


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(np.int64)


def test_ade20k_counts_are_those_of_mmsegmentation(golden: Path, tmp_path: Path) -> None:
    case = golden / "metrics/miou_ade20k/mini"
    expected = json.loads((case / "expected.json").read_text())
    pairs = [(read(golden.parent / p) - 1, read(case / "pred" / Path(p).name)) for p in expected["gt"]]
    result = evaluate_semantic(tmp_path, pairs, 150)
    counts, recorded = result.counts(), expected["counts"]
    assert counts.intersection.astype(int).tolist() == recorded["intersection"]
    assert counts.truth.astype(int).tolist() == recorded["gt"]
    assert counts.predicted.astype(int).tolist() == recorded["pred"]
    exact = expected["reference_from_counts"]["mIoU_classes_in_gt_or_pred"]
    assert abs(result.to_json()["miou"] - exact) <= 1e-9


def test_cityscapes_mean_is_that_of_cityscapesscripts(golden: Path, tmp_path: Path) -> None:
    case = golden / "metrics/miou_cityscapes/mini_val"
    expected = json.loads((case / "expected.json").read_text())
    labels = json.loads((golden / "metrics/facts/cityscapes_labels.json").read_text())
    labels = labels["labels"] if isinstance(labels, dict) else labels
    train_id = np.full(256, -1)
    for label in labels:
        if 0 <= label["train_id"] < 19:
            train_id[label["id"]] = label["train_id"]
    pairs = []
    for path in sorted(case.glob("*_pred_labelIds.png")):
        stem = path.name.removesuffix("_pred_labelIds.png")
        truth = next((golden.parent / expected["gt"]).glob(f"*/{stem}_gtFine_labelIds.png"))
        pairs.append((train_id[read(truth)], train_id[read(path)]))
    result = evaluate_semantic(tmp_path, pairs, 19)
    assert abs(result.to_json()["miou"] - expected["trainid_mIoU"]) <= 1e-9


def test_ade20k_by_each_convention(golden: Path, tmp_path: Path) -> None:
    case = golden / "metrics/miou_ade20k/mini"
    expected = json.loads((case / "expected.json").read_text())
    for path in expected["gt"]:
        (tmp_path / Path(path).name).symlink_to(golden.parent / path)
    figures = label_maps.evaluate_ade20k(tmp_path, case / "pred").to_json()
    detectron2 = expected["detectron2_SemSegEvaluator"]["values_percent"]
    mmsegmentation = expected["mmsegmentation_IoUMetric"]["values_fraction"]
    averages, recorded = figures["averages"], expected["reference_from_counts"]
    assert abs(100 * averages["classes in ground truth"] - detectron2["mIoU"]) <= 1e-9
    assert abs(averages["all classes"] - recorded["mIoU_over_all_150_absent_as_zero"]) <= 1e-9
    union = averages["classes in ground truth or prediction"]
    assert abs(union - recorded["mIoU_classes_in_gt_or_pred"]) <= 1e-9
    assert abs(union - mmsegmentation["mIoU"]) <= 1e-7  # it counts in 32 bits
    assert abs(100 * figures["frequency_weighted_iou"] - detectron2["fwIoU"]) <= 1e-9
    assert abs(100 * figures["mean_accuracy"] - detectron2["mACC"]) <= 1e-9
    assert abs(100 * figures["pixel_accuracy"] - detectron2["pACC"]) <= 1e-9


@pytest.mark.parametrize("name", ["mini_val", "real_frame"])
def test_cityscapes_classes_categories_and_instances(golden: Path, name: str) -> None:
    case = golden / "metrics/miou_cityscapes" / name
    expected = json.loads((case / "expected.json").read_text())
    figures = cityscapes_miou.evaluate_files(golden.parent / expected["gt"], case).to_json()
    pairs = [
        (figures["miou"], expected["averageScoreClasses"]),
        (figures["iiou"], expected["averageScoreInstClasses"]),
        (figures["category_iou"], expected["averageScoreCategories"]),
        (figures["category_iiou"], expected["averageScoreInstCategories"]),
    ]
    for label in LABELS:
        mine = figures["per_class"].get(str(label.id), {"iou": None})["iou"]
        pairs.append((mine, expected["classScores"][label.name]))
        mine = figures["iiou_per_class"].get(str(label.id))
        pairs.append((mine, expected["classInstScores"][label.name]))
    for category in expected["categoryScores"]:
        pairs.append((figures["iou_per_category"].get(category), expected["categoryScores"][category]))
        pairs.append((figures["iiou_per_category"].get(category), expected["categoryInstScores"][category]))
    for mine, official in pairs:
        assert (mine is None) == (official is None)
        assert mine is None or abs(mine - official) <= 1e-9
