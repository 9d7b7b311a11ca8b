"""Runs on tiny images in the layouts of COCO, Cityscapes and ADE20K, predicted by their ground truth."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage
from pycocotools import mask as coco_mask
from run_entries import sections, write_run

from kmax import paths
from kmax.config import Run
from kmax.data.dataset_file import load_dataset
from kmax.data.datasets import Prepared, PreparedSplit
from kmax.data.formats.coco_panoptic import write_map
from kmax.evaluation.run import evaluation_stage as run_module
from kmax.evaluation.submission import submission_archives, submission_check
from kmax.inference.prediction_files import coco_results, write_cityscapes_instances, write_labels
from kmax.inference.scored_instances import Instance
from kmax.runs.families import load_run

ROOT = Path(__file__).resolve().parents[3]
SIZE = (48, 96)
TEMPLATES = {
    "cityscapes": "cityscapes-resnet50-tfzoo",
    "ade20k": "ade20k-resnet50-641-tfzoo",
    "coco": "coco-resnet50-tfzoo",
}
# Category ids of the regions (left to right), and names of the two images, by dataset.
CATEGORIES = {"cityscapes": [7, 26, 26, 24, 23], "ade20k": [0, 12, 12, 7, 2], "coco": [1, 1, 3, 92, 93]}
NAMES = {
    "cityscapes": ["aa/aa_000000_000019_leftImg8bit.png", "bb/bb_000001_000019_leftImg8bit.png"],
    "ade20k": ["ADE_val_00000001.jpg", "ADE_val_00000002.jpg"],
    "coco": ["000000000139.jpg", "000000000285.jpg"],
}


def official_run(dataset: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **data: Any) -> Run:
    """A run on the dataset; `folder` becomes the working folder.

    Args:
        data: other entries of that section of the run file.
    """
    shutil.copytree(ROOT / "params", folder / "params")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("KMAX_DATA_ROOT", str(folder / "root"))
    content = sections(TEMPLATES[dataset])
    content["data"] |= data
    content["evaluate"]["bootstrap_samples"] = 20
    write_run(Path(), "small", content)
    described = load_dataset(dataset)
    assert described.categories is not None
    root = folder / "root" / described.source.folder
    index = {category.id: place for place, category in enumerate(described.categories)}
    images, annotations, results = [], [], []
    for number, name in enumerate(NAMES[dataset]):
        ids, segments = _regions(CATEGORIES[dataset], shift=8 * number)
        stem = Path(name).stem.removesuffix("_leftImg8bit")
        image_id = int(stem) if dataset == "coco" else stem
        images.append({"id": image_id, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
        infos = [
            {
                "id": key,
                "category_id": category,
                "area": int((ids == key).sum()),
                "bbox": [0, 0, 1, 1],
                "iscrowd": 0,
            }
            for key, category in segments.items()
        ]
        annotations.append({"image_id": image_id, "file_name": f"{stem}.png", "segments_info": infos})
        write_map(Path("truth") / f"{stem}.png", ids)
        classes = np.zeros(SIZE, np.int16)
        instances = []
        for key, category in segments.items():
            classes[ids == key] = index[category]
            if described.categories[index[category]].isthing:
                instances.append(Instance(index[category], 0.5 + key / 100000, ids == key))
        predicted, png = paths.predictions("small"), Path(name).with_suffix(".png")
        write_map(predicted / "panoptic" / png, ids)
        write_labels(predicted / "semantic" / png, classes, described.categories)
        if dataset == "cityscapes":
            text = predicted / "instances" / png.with_suffix(".txt")
            write_cityscapes_instances(text, instances, described.categories)
        results += coco_results(instances, image_id, described.categories)
        _write_own(dataset, root, stem, ids, segments)
    value = {"images": images, "annotations": annotations}
    value["categories"] = [c.model_dump() | {"isthing": int(c.isthing)} for c in described.categories]
    Path("truth.json").write_text(json.dumps(value))
    annotations = [a | {"file_name": str(Path(n).with_suffix(".png"))}
            for a, n in zip(annotations, NAMES[dataset], strict=True)]  # fmt: skip
    (paths.predictions("small") / "panoptic.json").write_text(
        json.dumps(value | {"annotations": annotations})
    )
    (paths.predictions("small") / "instances.json").write_text(json.dumps(results))
    if dataset == "coco":
        _write_coco(root / "annotations/instances_val2017.json", images, results, value["categories"])
    split = PreparedSplit("val", root / "val2017", folder / "truth.json", folder / "truth", len(images))
    prepared = Prepared(dataset, described.categories, "d" * 64, {"val": split})
    for module in (run_module, submission_archives, submission_check):
        monkeypatch.setattr(module, "open_prepared", lambda name: prepared)
    return load_run("small")


def _regions(categories: list[int], shift: int) -> tuple[NDArray[np.int32], dict[int, int]]:
    """Ids of stripes [H, W], and the category of each id; instances of one category have ids in a row."""
    keys = [category * 1000 + place + 1 for place, category in enumerate(categories)]
    width = SIZE[1] // len(keys)
    ids = np.full(SIZE, keys[0], np.int32)
    for place, key in enumerate(keys[1:], start=1):
        ids[shift:, place * width : (place + 1) * width] = key
    return ids, dict(zip(keys, categories, strict=True))


def _write_own(dataset: str, root: Path, stem: str, ids: NDArray[np.int32], segments: dict[int, int]) -> None:
    """The label PNGs that Cityscapes and ADE20K evaluate against."""
    labels = np.zeros(SIZE, np.uint8)
    for key, category in segments.items():
        labels[ids == key] = category
    if dataset == "cityscapes":
        numbers = np.where(np.isin(labels, (24, 26)), ids, labels).astype(np.uint16)
        folder = root / "gtFine/val" / stem[:2]
        folder.mkdir(parents=True)
        PillowImage.fromarray(labels).save(folder / f"{stem}_gtFine_labelIds.png")
        PillowImage.fromarray(numbers).save(folder / f"{stem}_gtFine_instanceIds.png")
    elif dataset == "ade20k":
        folder = root / "annotations/validation"
        folder.mkdir(parents=True, exist_ok=True)
        PillowImage.fromarray(labels + 1).save(folder / f"{stem}.png")


def _write_coco(
    path: Path, images: list[dict[str, Any]], results: list[dict[str, Any]], categories: list[dict[str, Any]]
) -> None:
    """An instance annotation whose first instance of each image is larger than its panoptic segment."""
    annotations = []
    for number, entry in enumerate(results, start=1):
        mask = coco_mask.decode(entry["segmentation"])
        if [other["image_id"] for other in results].index(entry["image_id"]) == number - 1:
            mask[:, :40] = 1
        encoded = coco_mask.encode(np.asfortranarray(mask))
        annotations.append(
            {
                "id": number,
                "image_id": entry["image_id"],
                "category_id": entry["category_id"],
                "iscrowd": 0,
                "area": int(mask.sum()),
                "bbox": coco_mask.toBbox(encoded).tolist(),
                "segmentation": encoded | {"counts": encoded["counts"].decode()},
            }
        )
    things = [{"id": c["id"], "name": c["name"]} for c in categories if c["isthing"]]
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"images": images, "categories": things, "annotations": annotations}))
