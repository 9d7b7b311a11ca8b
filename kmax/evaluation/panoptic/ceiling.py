"""The best panoptic quality that the stride-4 grid allows.

The network decides on a grid of every fourth pixel of its input. Even with perfect logits, enlarging them
cannot restore finer details, so a model that is overfitted to a few images is judged against this ceiling.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from kmax.data.formats.coco_panoptic import read_map
from kmax.data.geometry import fit_size, resize_labels
from kmax.errors import InputWarnings
from kmax.evaluation.panoptic.image_segments import ImageSegments
from kmax.evaluation.panoptic.pairs import VOID, count_pairs
from kmax.evaluation.panoptic.panoptic_files import ImagePair, PanopticFiles
from kmax.evaluation.panoptic.pq import Counts, PQResult, collect, match
from kmax.processes.parallel import map_checked

STRIDE = 4


def stride4_ceiling(
    files: PanopticFiles, input_size: tuple[int, int], workers: int | None = None
) -> PQResult:
    """Panoptic quality of the ground truth after it was resampled by the network's output grid.

    Args:
        files: only their ground truth is used, whose categories must be known.
        input_size: (height, width) of the network's input.
        workers: processes; None: one per core.

    Raises:
        InputError: missing or corrupt PNGs, one line each.
    """
    class_of = {category.id: index for index, category in enumerate(files.categories)}
    one = partial(_count, class_of=class_of, input_size=input_size)
    # Not `each_image`: its first image would start the threads of PyTorch before the workers are forked.
    counts = map_checked(one, files.images, "ceiling", workers)
    return collect(files.categories, [pair.image_id for pair in files.images], counts, [])


def through_grid(ids: NDArray[np.int32], input_size: tuple[int, int]) -> NDArray[np.int32]:
    """Resample ids [H, W] to the network's input size, keep every fourth pixel, and post-process them.

    The grid holds one-hot masks, including void. They are enlarged bilinearly with aligned corners, the
    largest wins, padding is cropped, and the labels are resized to [H, W] by nearest neighbour.
    """
    numbers, index = np.unique(ids, return_inverse=True)
    height, width = fit_size((ids.shape[0], ids.shape[1]), input_size)
    content = resize_labels(index.reshape(ids.shape), (height, width))
    # Losses ignore padding, so a network may continue its masks there.
    padded = np.pad(content, ((0, input_size[0] - height), (0, input_size[1] - width)), mode="edge")
    masks = F.one_hot(torch.from_numpy(padded[::STRIDE, ::STRIDE].copy()), len(numbers))
    enlarged = F.interpolate(
        masks.permute(2, 0, 1)[None].float(), input_size, mode="bilinear", align_corners=True
    )
    winners = enlarged[0].argmax(0).numpy()[:height, :width]
    result: NDArray[np.int32] = numbers[resize_labels(winners, ids.shape)].astype(np.int32)
    return result


def _count(
    pair: ImagePair, _: InputWarnings, class_of: dict[int, int], input_size: tuple[int, int]
) -> Counts:
    """Counts [C] of one image; crowd segments are not predicted."""
    truth = read_map(pair.truth_path)
    segments = pair.truth_segments
    crowd = [segment["id"] for segment in segments if segment["iscrowd"] == 1]
    predicted = through_grid(np.where(np.isin(truth, crowd), VOID, truth), input_size)
    present = set(np.unique(predicted).tolist())
    kept = [segment for segment in segments if segment["id"] in present]
    image = ImageSegments(
        image_id=pair.image_id,
        pairs=count_pairs(truth, predicted),
        truth_ids=np.array([s["id"] for s in segments], np.int64),
        truth_classes=np.array([class_of[s["category_id"]] for s in segments], np.int64),
        truth_areas=np.array([s["area"] for s in segments], np.float64),
        truth_crowd=np.array([s["iscrowd"] == 1 for s in segments], np.bool_),
        predicted_ids=np.array([s["id"] for s in kept], np.int64),
        predicted_classes=np.array([class_of[s["category_id"]] for s in kept], np.int64),
    )
    return match(image, len(class_of))
