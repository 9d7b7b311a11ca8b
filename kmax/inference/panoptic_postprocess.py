"""Panoptic post-processing: from class and mask logits to a map of segments, in two modes.

Mask-wise (kMaX-DeepLab, section 3.3): masks compete per pixel by a softmax over the clusters. Clusters whose
class is confident are pasted on an empty canvas from the most to the least confident. A mask that has lost
too large a share of its pixels to earlier ones is dropped, and segments of one stuff class are merged. The
originals agree on that; `postprocess_flavour` lists where they differ.

Pixel-wise (MaX-DeepLab, section 3.4; only the TensorFlow original has it): each pixel goes to the most likely
of the confident clusters, if that is the most likely of all clusters too and its share of a softmax over the
confident ones exceeds the pixel threshold. Nothing is reordered, and no mask is dropped for its overlaps.
Area limits apply as in the mask-wise mode.

Shapes: N clusters, M confident clusters, K classes, h w pixels of mask logits, H W of the map.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kmax.config import Flavour, Predict
from kmax.data.geometry import resize_labels
from kmax.inference.overlaps import Overlaps, collect_overlaps
from kmax.inference.panoptic_map import (
    PanopticMap,
    Table,
    drop_small,
    merge_stuff,
    number_segments,
    pixel_scores,
)
from kmax.inference.postprocess_flavour import POSTPROCESS_FLAVOURS, PostprocessFlavour
from kmax.inference.upsampling import ImageSizes, to_image, to_input


def maskwise(
    class_logits: Tensor,
    mask_logits: Tensor,
    sizes: ImageSizes,
    isthing: Tensor,
    predict: Predict,
    flavour: Flavour,
) -> PanopticMap:
    """Turn the network's output for one image into a panoptic map at the size of the image file.

    Args:
        class_logits: [N, K+1], void last.
        mask_logits: [N, h, w], at stride 4 (or 2) of the padded input.
        sizes: of the image.
        isthing: bool [K].
        predict: thresholds and limits.
        flavour: which original is computed.
    """
    differences = POSTPROCESS_FLAVOURS[flavour]
    mask_logits = mask_logits.float()
    native = (mask_logits.shape[1], mask_logits.shape[2])
    upsampling = to_image(native, sizes) if differences.at_image_size else to_input(native, sizes.input)
    scores, classes, kept = confident(class_logits, isthing, predict, inclusive=differences.threshold_passes)
    things = isthing.to(classes.device)[classes]
    if not len(kept):
        return PanopticMap(np.zeros(sizes.original, dtype=np.int32), [])

    overlaps = collect_overlaps(len(kept), predict.pixel_threshold)
    largest = []
    for band in upsampling.bands(mask_logits):
        if differences.scores_by_pixels:
            largest.append(band.weights.amax(1) / band.total)
        overlaps.add(band.weights[:, kept], band.total)
    order, mask_scores = rank_masks(overlaps, mask_logits, scores[kept], kept, predict, differences)
    table, indices = overlaps.paste(order.cpu().numpy(), predict.overlap_threshold)

    kept = kept[order]
    mask_classes, mask_things = classes[kept].cpu().numpy(), things[kept].cpu().numpy()
    pixels = np.bincount(indices.ravel(), minlength=len(table))
    areas = np.bincount(table, pixels, minlength=len(kept) + 1)
    segment_of = merge_stuff(areas, mask_classes, mask_things)
    if differences.area_limits:
        segment_of = drop_small(segment_of, areas, mask_things, predict)
    segment_scores = (scores[kept] * mask_scores[order]).cpu().numpy()
    if differences.scores_by_pixels:
        segment_scores = _scores_by_pixels(segment_of, table, indices, largest, scores[kept], sizes)
    ids: NDArray[np.int32] = segment_of[table][indices]
    if not differences.at_image_size:
        ids = resize_labels(ids[: sizes.content[0], : sizes.content[1]], sizes.original)
    return number_segments(ids, mask_classes, segment_scores)


def rank_masks(
    overlaps: Overlaps,
    mask_logits: Tensor,
    scores: Tensor,
    kept: Tensor,
    predict: Predict,
    differences: PostprocessFlavour,
) -> tuple[Tensor, Tensor]:
    """The order [M] in which masks are pasted, and their mask scores [M].

    Args:
        overlaps: of the masks.
        mask_logits: [N, h, w].
        scores: [M], class score of each mask.
        kept: [M], the cluster of each mask.
        predict: thresholds and exponents.
        differences: of the flavour.
    """
    if differences.native_mask_scores:
        mask_scores = _mask_scores(mask_logits.softmax(0)[kept].flatten(1), predict.pixel_threshold)
    else:
        means = overlaps.shares() / overlaps.areas().clip(min=1)
        mask_scores = torch.from_numpy(means).to(scores)
    reorder = scores**predict.reorder_class_weight * mask_scores**predict.reorder_mask_weight
    return torch.argsort(reorder, descending=True, stable=True), mask_scores


def pixelwise(
    class_logits: Tensor,
    mask_logits: Tensor,
    sizes: ImageSizes,
    isthing: Tensor,
    predict: Predict,
) -> PanopticMap:
    """Turn the network's output for one image into a panoptic map; arguments as in `maskwise`.

    A segment's score is the mean share of its pixels times the mean class score of their clusters.
    """
    mask_logits = mask_logits.float()
    scores, classes, kept = confident(class_logits, isthing, predict, inclusive=False)
    if not len(kept):
        return PanopticMap(np.zeros(sizes.original, dtype=np.int32), [])
    order = torch.argsort(scores[kept], descending=True, stable=True)
    kept = kept[order]

    winners, shares = [], []
    upsampling = to_input((mask_logits.shape[1], mask_logits.shape[2]), sizes.input)
    for band in upsampling.bands(mask_logits):
        weights = band.weights[:, kept]  # [R, M, W]
        best, winner = weights.max(1)
        share = best / weights.sum(1)  # not a number where all are negligible, which are not the best either
        sure = (best >= band.weights.amax(1)) & (share > predict.pixel_threshold)
        winner = torch.where(sure, winner + 1, 0)
        winners.append(winner.int())
        shares.append(share.nan_to_num(0))
    indices = torch.cat(winners).cpu().numpy()

    mask_classes = classes[kept].cpu().numpy()
    mask_things = isthing.cpu().numpy()[mask_classes]
    areas = np.bincount(indices.ravel(), minlength=len(kept) + 1)
    segment_of = merge_stuff(areas, mask_classes, mask_things)
    segment_of = drop_small(segment_of, areas, mask_things, predict)
    table = np.arange(len(kept) + 1, dtype=np.int32)  # an index is the mask itself
    segment_scores = _scores_by_pixels(segment_of, table, indices, shares, scores[kept], sizes)
    ids = segment_of[indices[: sizes.content[0], : sizes.content[1]]]
    return number_segments(resize_labels(ids, sizes.original), mask_classes, segment_scores)


def confident(
    class_logits: Tensor, isthing: Tensor, predict: Predict, *, inclusive: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The score [N] and class [N] of each cluster, void excluded, and the indices [M] of confident ones."""
    scores, classes = class_logits.float().softmax(-1)[:, :-1].max(-1)
    things = isthing.to(classes.device)[classes]
    threshold = torch.where(things, predict.class_threshold_thing, predict.class_threshold_stuff)
    passes = scores >= threshold if inclusive else scores > threshold
    return scores, classes, passes.nonzero()[:, 0]


def _scores_by_pixels(
    segment_of: Table,
    table: Table,
    indices: NDArray[np.int32],
    shares: list[Tensor],
    scores: Tensor,
    sizes: ImageSizes,
) -> NDArray[np.float32]:
    """Score [M] of each segment by those of its pixels that are image, see `pixel_scores`.

    Args:
        segment_of: [M+1], number of the segment that each mask belongs to.
        table: [X], the mask of each index.
        indices: [H, W], indices into the table.
        shares: bands of rows of the largest softmax share of each pixel, [R, W].
        scores: [M], class score of each mask.
        sizes: of the image.
    """
    image = slice(sizes.content[0]), slice(sizes.content[1])
    seen = indices[image].ravel()
    pixels = np.bincount(seen, minlength=len(table))
    sums = np.bincount(seen, torch.cat(shares).cpu().numpy()[image].ravel(), minlength=len(table))
    return pixel_scores(
        segment_of,
        np.bincount(table, pixels, minlength=len(segment_of)),
        np.bincount(table, sums, minlength=len(segment_of)),
        scores.cpu().numpy(),
    )


def _mask_scores(probabilities: Tensor, pixel_threshold: float) -> Tensor:
    """Mean probability [M] over the confident pixels of each mask in [M, pixels]; 0 without any."""
    sure = probabilities > pixel_threshold
    return (probabilities * sure).sum(1) / sure.sum(1).clamp(min=1)
