"""Small panoptic ground truth and predictions on disk."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from kmax.data.formats.coco_panoptic import write_map
from kmax.evaluation.panoptic.panoptic_files import PanopticArguments

CATEGORIES = [
    {"id": 1, "name": "cat", "isthing": 1, "supercategory": "thing"},
    {"id": 7, "name": "dog", "isthing": 1, "supercategory": "thing"},
    {"id": 9, "name": "sky", "isthing": 0, "supercategory": "stuff"},
]


def write_side(folder: Path, name: str, images: dict[int, tuple[np.ndarray, dict[int, int]]]) -> None:
    """Write `<name>.json` and `<name>/`; an image is (ids, segment id -> category id)."""
    annotations = []
    for image_id, (ids, categories) in images.items():
        write_map(folder / name / f"{image_id}.png", ids)
        segments = [
            {
                "id": number,
                "category_id": category,
                "area": int((ids == number).sum()),
                "bbox": [0, 0, 1, 1],
                "iscrowd": 0,
            }
            for number, category in categories.items()
        ]
        file_name = f"{image_id}.png"
        annotations.append({"image_id": image_id, "file_name": file_name, "segments_info": segments})
    sizes = {image_id: ids.shape for image_id, (ids, _) in images.items()}
    listed = [
        {"id": i, "file_name": f"{i}.jpg", "height": shape[0], "width": shape[1]}
        for i, shape in sizes.items()
    ]
    content = {"images": listed, "categories": CATEGORIES, "annotations": annotations}
    (folder / f"{name}.json").write_text(json.dumps(content))


def files(folder: Path, **options: Any) -> PanopticArguments:
    """Arguments of the evaluators."""
    paths = folder / "gt.json", folder / "gt", folder / "pred.json", folder / "pred"
    return PanopticArguments(*paths, **options)


def halves(left: int, right: int, size: int = 8) -> np.ndarray:
    """A square map whose left half is one id and right half another."""
    ids = np.full((size, size), left, np.int32)
    ids[:, size // 2 :] = right
    return ids
