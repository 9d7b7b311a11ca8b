"""The best panoptic quality that the stride-4 grid allows.

The network decides on a grid of every fourth pixel of its input. Even with perfect logits there, enlarging
them cannot give back finer details, so a model that knows its images by heart is judged against this ceiling.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from kmax.config import Data
from kmax.data.datasets import Prepared
from kmax.data.formats.coco_panoptic import Annotation, read_map, select_images
from kmax.data.formats.coco_panoptic_json import read_panoptic_json
from kmax.data.geometry import fit_size, resize_labels
from kmax.evaluation.panoptic.image_segments import Matchable
from kmax.evaluation.panoptic.pairs import VOID, count_pairs
from kmax.evaluation.panoptic.panoptic_files import CategoryFacts
from kmax.evaluation.panoptic.pq import Counts, PQResult, collect, match
from kmax.parallel import map_items

STRIDE = 4


def stride4_ceiling(prepared: Prepared, data: Data, workers: int | None = None) -> PQResult:
    """Panoptic quality of the val images' ground truth after it went through the network's output grid.

    Args:
        data: `image_size`, `val_split` and `val_images` are read.
        workers: processes; None: one per core.
    """
    split = prepared.split(data.val_split)
    content = read_panoptic_json(split.panoptic_json)
    images = select_images(content.images, data.val_images, "data.val_images")
    annotations = {annotation.image_id: annotation for annotation in content.annotations}
    one = partial(
        _count,
        folder=split.panoptic_dir,
        class_of={category.id: index for index, category in enumerate(prepared.categories)},
        input_size=(data.image_size[0], data.image_size[1]),
    )
    counts = list(map_items(one, [annotations[image.id] for image in images], "ceiling", workers))
    categories = [CategoryFacts(c.id, c.name, c.isthing) for c in prepared.categories]
    return collect(categories, [image.id for image in images], counts, [])


def through_grid(ids: NDArray[np.int32], input_size: tuple[int, int]) -> NDArray[np.int32]:
    """Ids [H, W] at network input size, every fourth pixel kept, and back as post-processing does it.

    The grid holds certain masks (one-hot), void among them; they are enlarged bilinearly with aligned
    corners, the largest wins, padding is cropped, and the labels go back to [H, W] by the nearest pixel.
    """
    numbers, index = np.unique(ids, return_inverse=True)
    height, width = fit_size((ids.shape[0], ids.shape[1]), input_size)
    content = resize_labels(index.reshape(ids.shape), (height, width))
    # Losses do not look at padding, so a network may continue its masks there.
    padded = np.pad(content, ((0, input_size[0] - height), (0, input_size[1] - width)), mode="edge")
    masks = F.one_hot(torch.from_numpy(padded[::STRIDE, ::STRIDE].copy()), len(numbers))
    enlarged = F.interpolate(
        masks.permute(2, 0, 1)[None].float(), input_size, mode="bilinear", align_corners=True
    )
    winners = enlarged[0].argmax(0).numpy()[:height, :width]
    result: NDArray[np.int32] = numbers[resize_labels(winners, ids.shape)].astype(np.int32)
    return result


def _count(
    annotation: Annotation, folder: Path, class_of: dict[int, int], input_size: tuple[int, int]
) -> Counts:
    """Counts of one image; crowd segments are not predicted."""
    truth = read_map(folder / annotation.file_name)
    crowd = [segment.id for segment in annotation.segments if segment.iscrowd]
    predicted = through_grid(np.where(np.isin(truth, crowd), VOID, truth), input_size)
    segments = annotation.segments
    present = set(np.unique(predicted).tolist())
    kept = [segment for segment in segments if segment.id in present]
    image = Matchable(
        image_id=annotation.image_id,
        pairs=count_pairs(truth, predicted),
        truth_ids=np.array([s.id for s in segments], np.int64),
        truth_classes=np.array([class_of[s.category_id] for s in segments], np.int64),
        truth_areas=np.array([s.area for s in segments], np.float64),
        truth_crowd=np.array([s.iscrowd for s in segments], np.bool_),
        predicted_ids=np.array([s.id for s in kept], np.int64),
        predicted_classes=np.array([class_of[s.category_id] for s in kept], np.int64),
    )
    return match(image, len(class_of))
