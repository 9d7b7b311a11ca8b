"""Mean IoU against the numbers of the official evaluators, on semantic maps written as panoptic ones."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from kmax.data.panoptic import write_map
from kmax.evaluation.miou import MiouResult, evaluate_files


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
    return evaluate_files(folder / "gt.json", folder / "gt", folder / "pred.json", folder / "pred")


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
