"""Instances with scores, for average precision.

TensorFlow: the thing segments of its panoptic map. PyTorch: the best pairs of cluster and class, each with
the cluster's own mask, so that masks may overlap and one cluster may appear under several classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kmax.config import Predict
from kmax.inference.panoptic_map import PanopticMap
from kmax.inference.upsampling import ImageSizes, to_image

MOST_INSTANCES = 100  # pairs of cluster and class taken from an image


@dataclass(frozen=True)
class Instance:
    """One instance: contiguous class, score, and mask bool [H, W] at the size of the image."""

    class_index: int
    score: float
    mask: NDArray[np.bool_]


def instances_of_map(result: PanopticMap, isthing: Tensor) -> list[Instance]:
    """The thing segments of a panoptic map, with their scores, as in the TensorFlow original."""
    things = isthing.tolist()
    return [
        Instance(segment.class_index, segment.score, result.ids == segment.id)
        for segment in result.segments
        if things[segment.class_index]
    ]


def instances_of_clusters(
    class_logits: Tensor,
    mask_logits: Tensor,
    sizes: ImageSizes,
    isthing: Tensor,
    predict: Predict,
) -> list[Instance]:
    """Instances of the PyTorch original, in descending order of score.

    Of the 100 best pairs of cluster and class those of things are kept. The mask is where the cluster's share
    exceeds the pixel threshold; the score is the class probability times the mean share inside the mask.
    Arguments as in `maskwise`.
    """
    mask_logits = mask_logits.float()
    probabilities = class_logits.float().softmax(1)[:, :-1]
    best = probabilities.flatten().topk(min(MOST_INSTANCES, probabilities.numel()))
    pair_cluster = best.indices // probabilities.shape[1]
    pair_class = best.indices % probabilities.shape[1]
    of_thing = isthing.to(pair_class.device)[pair_class]
    scores, pair_cluster, pair_class = best.values[of_thing], pair_cluster[of_thing], pair_class[of_thing]
    clusters, pair_mask = torch.unique(pair_cluster, return_inverse=True)

    native = (mask_logits.shape[1], mask_logits.shape[2])
    masks, sums = [], torch.zeros(len(clusters), device=mask_logits.device)
    for band in to_image(native, sizes).bands(mask_logits):
        weights = band.weights[:, clusters]
        mask = weights > predict.pixel_threshold * band.total[:, None]
        sums += (weights * mask / band.total[:, None]).sum((0, 2))
        masks.append(mask.transpose(0, 1))
    all_masks = torch.cat(masks, 1)  # [M, H, W]
    mask_scores = sums / (all_masks.flatten(1).sum(1) + 1e-6)
    scores = scores * mask_scores[pair_mask]
    host_masks = all_masks.cpu().numpy()
    order = torch.argsort(scores, descending=True, stable=True)
    return [
        Instance(int(pair_class[pair]), float(scores[pair]), host_masks[pair_mask[pair]])
        for pair in order.tolist()
    ]
