"""Hungarian matching of ground-truth segments to clusters, and the targets and weights that follow from it.

It is computed once, on the final output, and shared by all auxiliary outputs. No gradients flow here: the
matched qualities weight the losses (PQ-style loss of MaX-DeepLab, equations 8 to 10), and are not trained.

Legend of shapes: B images, N clusters, M segments (padded), K classes, P pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from kmax.losses.finite import NonFiniteLossError, bad_images
from kmax.losses.targets import GroundTruth, Targets

SMALLEST_WEIGHT = 1e-5  # a weight of zero would drop its entry from the means over non-zero entries
MATCHED_SHARE = 0.75  # weight of matched clusters in the class term; void clusters get the rest


@dataclass(frozen=True)
class Matching:
    """The cluster of each segment, and the weights of both.

    Attributes:
        cluster: int64 [B, M], the segment's cluster; N for an unmatched segment (more segments than
            clusters, TensorFlow flavour only); -1 for padding and for segments that do not take part.
        class_probability: [B, M], the matched cluster's probability of the segment's class, at least 1e-5.
        class_target: [B, N, K+1], one-hot, void last.
        class_weight: [B, N], mask quality of matched clusters, share of void pixels of the others.
        complete: whether every segment found a cluster.
    """

    cluster: Tensor
    class_probability: Tensor
    class_target: Tensor
    class_weight: Tensor
    complete: bool


@torch.no_grad()
def match(
    class_logits: Tensor,
    mask_probabilities: Tensor,
    truth: GroundTruth,
    size: tuple[int, int],
    image_ids: Sequence[int | str],
) -> Matching:
    """Match segments and clusters so that the sum of mask similarity times class probability is largest.

    With more segments than clusters, those left over become void by `drop_left_over` (`truth` changes).
    Otherwise they stay, matched to a cluster of no probability; their classes go to cluster 0.

    Args:
        class_logits: [B, N, K+1].
        mask_probabilities: [B, N, P], softmax over clusters.
        truth: the ground truth.
        size: (h, w) of the prediction.
        image_ids: ids of the B images, for errors.

    Raises:
        NonFiniteLossError: a mask similarity or class probability is NaN or infinite.
    """
    targets = truth.at(size)
    classes = truth.classes.clamp(min=0)
    dice = mask_similarity(mask_probabilities, targets)
    probability = class_logits.softmax(2).gather(2, classes[:, None].expand(-1, class_logits.shape[1], -1))
    probability = probability.transpose(1, 2)  # [B, M, N]

    present = targets.areas > 0
    cluster = assign(dice, probability, present, image_ids)
    matched = cluster >= 0
    left_over = present & ~matched
    complete = not bool(left_over.any())
    if not complete and truth.differences.drop_left_over:
        truth.keep(matched)
        targets = truth.at(size)
        left_over = torch.zeros_like(left_over)
        complete = True

    chosen = cluster.clamp(min=0)[:, :, None]
    class_probability = probability.gather(2, chosen).squeeze(2) * matched
    class_target, class_weight = _class_targets(
        cluster,
        matched,
        left_over,
        classes,
        dice.gather(2, chosen).squeeze(2),
        class_logits.shape,
        _void_share(mask_probabilities, targets),
    )
    return Matching(
        cluster=cluster.masked_fill(left_over, class_logits.shape[1]),
        class_probability=class_probability.clamp(min=SMALLEST_WEIGHT),
        class_target=class_target,
        class_weight=class_weight,
        complete=complete,
    )


def mask_similarity(mask_probabilities: Tensor, targets: Targets) -> Tensor:
    """Dice [B, M, N] of each segment with each cluster's soft mask, void pixels excluded."""
    intersection = targets.masks @ mask_probabilities.transpose(1, 2)
    predicted = mask_probabilities @ (~targets.void).float()[:, :, None]  # [B, N, 1]
    return intersection / ((targets.masks.sum(2, keepdim=True) + predicted.transpose(1, 2)) / 2 + 1e-5)


def assign(dice: Tensor, probability: Tensor, present: Tensor, image_ids: Sequence[int | str]) -> Tensor:
    """The cluster of each segment by scipy's linear sum assignment: int64 [B, M], -1 for none.

    Args:
        dice: [B, M, N].
        probability: [B, M, N].
        present: bool [B, M], the segments that take part.
        image_ids: ids of the B images, for errors.

    Raises:
        NonFiniteLossError: names the non-finite term and the images.
    """
    for term, values in (("mask similarity", dice), ("class probability", probability)):
        finite = torch.isfinite(values).flatten(1).all(1)
        if not bool(finite.all()):
            raise NonFiniteLossError(f"{term} of the matching", bad_images(finite.tolist(), image_ids))
    cost = -(dice * probability).double().cpu().numpy()
    takes_part = present.cpu().numpy()
    cluster = np.full(takes_part.shape, -1, dtype=np.int64)
    for image, rows in enumerate(takes_part):
        segments = np.flatnonzero(rows)
        matched, columns = linear_sum_assignment(cost[image, segments])
        cluster[image, segments[matched]] = columns
    return torch.from_numpy(cluster).to(dice.device)


def _void_share(mask_probabilities: Tensor, targets: Targets) -> Tensor:
    """Share [B, N] of each cluster's soft mask on void pixels."""
    on_void = (mask_probabilities @ targets.void.float()[:, :, None]).squeeze(2)
    return on_void / (mask_probabilities.sum(2) + 1e-5)


def _class_targets(
    cluster: Tensor,
    matched: Tensor,
    left_over: Tensor,
    classes: Tensor,
    dice: Tensor,
    shape: torch.Size,
    void_share: Tensor,
) -> tuple[Tensor, Tensor]:
    """Class targets [B, N, K+1] and weights [B, N]; `dice` [B, M] is the one with the matched cluster."""
    target = dice.new_zeros(shape)
    # Left-over segments address cluster 0, on top of its own, as in the TensorFlow original.
    image, segment = torch.nonzero(matched | left_over, as_tuple=True)
    address = (image, cluster[image, segment].clamp(min=0), classes[image, segment])
    target.index_put_(address, dice.new_ones(()), accumulate=True)
    positive = target.amax(2) == 1
    target[:, :, -1] = (~positive).float()

    image, segment = torch.nonzero(matched, as_tuple=True)
    matched_dice = torch.zeros_like(void_share)
    matched_dice[image, cluster[image, segment]] = dice[image, segment]
    quality = torch.where(positive, matched_dice, void_share).clamp(min=SMALLEST_WEIGHT)
    share = torch.where(positive, MATCHED_SHARE, 1 - MATCHED_SHARE)
    return target, quality * share
