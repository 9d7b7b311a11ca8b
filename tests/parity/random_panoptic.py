"""Random ground truth and predictions in COCO's panoptic format."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from kmax.data.formats.coco_panoptic import write_map
from kmax.evaluation.panoptic.panoptic_files import PanopticArguments

CATEGORIES = [{"id": number, "name": f"c{number}", "isthing": int(number < 4)} for number in (1, 2, 3, 7, 9)]


def random_case(folder: Path, seed: int) -> PanopticArguments:
    """Three images of overlapping blocks, predicted by the same blocks, moved, relabelled or lost."""
    rng = np.random.default_rng(seed)
    annotations: dict[str, list[dict[str, Any]]] = {"gt": [], "pred": []}
    for image in range(3):
        maps = {side: np.zeros((24, 30), np.int32) for side in annotations}
        classes: dict[str, dict[int, int]] = {side: {} for side in annotations}
        for number in range(1, 9):
            y, x, height, width = rng.integers(0, 20), rng.integers(0, 26), *rng.integers(3, 16, 2)
            category = int(rng.choice([c["id"] for c in CATEGORIES]))
            maps["gt"][y : y + height, x : x + width] = 70 * number
            classes["gt"][70 * number] = category
            if rng.random() < 0.8:
                y, x = max(0, y + rng.integers(-2, 3)), max(0, x + rng.integers(-2, 3))
                maps["pred"][y : y + height, x : x + width] = 300 * number
                other = rng.random() < 0.2
                classes["pred"][300 * number] = 1 if other else category
        for side, ids in maps.items():
            write_map(folder / side / f"{image}.png", ids)
            segments = [
                {
                    "id": number,
                    "category_id": classes[side][number],
                    "area": int((ids == number).sum()),
                    "iscrowd": int(side == "gt" and classes[side][number] < 4 and rng.random() < 0.2),
                }
                for number in np.unique(ids[ids > 0]).tolist()
            ]
            entry = {"image_id": image, "file_name": f"{image}.png", "segments_info": segments}
            annotations[side].append(entry)
    for side, entries in annotations.items():
        content = {"categories": CATEGORIES, "annotations": entries}
        (folder / f"{side}.json").write_text(json.dumps(content))
    return PanopticArguments(*(folder / name for name in ("gt.json", "gt", "pred.json", "pred")))
