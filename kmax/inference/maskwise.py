"""Mask-wise panoptic post-processing: from class and mask logits to a map of segments (paper, section 3.3).

Masks compete per pixel by a softmax over the clusters. Clusters whose class is confident are pasted on an
empty canvas from the most to the least confident; a mask that has lost too large a share of its pixels to
earlier ones is dropped, and segments of one stuff class are merged. The originals agree on that; `choices`
lists where they differ.

Legend of shapes: N clusters, M confident clusters, K classes, h w pixels of mask logits, H W of the map.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kmax.config import Flavour, Predict
from kmax.data.geometry import resize_labels
from kmax.inference.enlarge import Size2, to_image, to_input
from kmax.inference.overlaps import gather_claims
from kmax.inference.panoptic_map import PanopticMap, drop_small, merge_stuff, number_segments, pixel_scores
from kmax.inference.postprocess_flavour import CHOICES


def maskwise(
    class_logits: Tensor,
    mask_logits: Tensor,
    *,
    input_size: Size2,
    content_size: Size2,
    original_size: Size2,
    isthing: Tensor,
    predict: Predict,
    flavour: Flavour,
) -> PanopticMap:
    """Turn the network's output for one image into a panoptic map at the size of the image file.

    Args:
        class_logits: [N, K+1], void last.
        mask_logits: [N, h, w], at stride 4 (or 2) of the padded input.
        input_size: (height, width) of the network input.
        content_size: (height, width) of its top left part that is image; the rest is padding.
        original_size: (height, width) of the image file.
        isthing: bool [K].
        predict: thresholds and limits.
        flavour: which original's choices hold.
    """
    choices = CHOICES[flavour]
    mask_logits = mask_logits.float()
    native = (mask_logits.shape[1], mask_logits.shape[2])
    enlargement = to_input(native, input_size)
    if choices.at_image_size:
        enlargement = to_image(native, input_size, content_size, original_size)
    scores, classes, kept = confident(class_logits, isthing, predict, inclusive=choices.threshold_passes)
    things = isthing.to(classes.device)[classes]
    if not len(kept):
        return PanopticMap(np.zeros(original_size, dtype=np.int32), [])

    claims = gather_claims(len(kept), predict.pixel_threshold)
    largest = []
    for band in enlargement.bands(mask_logits):
        if choices.scores_by_pixels:
            largest.append(band.weights.amax(1) / band.total)
        claims.add(band.weights[:, kept], band.total)
    if choices.native_mask_scores:
        mask_scores = _mask_scores(mask_logits.softmax(0)[kept].flatten(1), predict.pixel_threshold)
    else:
        means = claims.shares() / claims.areas().clip(min=1)
        mask_scores = torch.from_numpy(means).to(scores)
    reorder = scores[kept] ** predict.reorder_class_weight * mask_scores**predict.reorder_mask_weight
    order = torch.argsort(reorder, descending=True, stable=True)
    table, indices = claims.paste(order.cpu().numpy(), predict.overlap_threshold)

    kept = kept[order]
    mask_classes, mask_things = classes[kept].cpu().numpy(), things[kept].cpu().numpy()
    pixels = np.bincount(indices.ravel(), minlength=len(table))
    areas = np.bincount(table, pixels, minlength=len(kept) + 1)
    segment_of = merge_stuff(areas, mask_classes, mask_things)
    if choices.area_limits:
        segment_of = drop_small(segment_of, areas, mask_things, predict)
    segment_scores = (scores[kept] * mask_scores[order]).cpu().numpy()
    if choices.scores_by_pixels:
        image = slice(content_size[0]), slice(content_size[1])
        seen = indices[image].ravel()
        pixels = np.bincount(seen, minlength=len(table))
        shares = np.bincount(seen, torch.cat(largest).cpu().numpy()[image].ravel(), minlength=len(table))
        segment_scores = pixel_scores(
            segment_of,
            np.bincount(table, pixels, minlength=len(kept) + 1),
            np.bincount(table, shares, minlength=len(kept) + 1),
            scores[kept].cpu().numpy(),
        )
    ids: NDArray[np.int32] = segment_of[table][indices]
    if not choices.at_image_size:
        ids = resize_labels(ids[: content_size[0], : content_size[1]], original_size)
    return number_segments(ids, mask_classes, segment_scores)


def confident(
    class_logits: Tensor, isthing: Tensor, predict: Predict, *, inclusive: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The score [N] and class [N] of each cluster, void left out, and the indices [M] of confident ones."""
    scores, classes = class_logits.float().softmax(-1)[:, :-1].max(-1)
    things = isthing.to(classes.device)[classes]
    threshold = torch.where(things, predict.class_threshold_thing, predict.class_threshold_stuff)
    passes = scores >= threshold if inclusive else scores > threshold
    return scores, classes, passes.nonzero()[:, 0]


def _mask_scores(probabilities: Tensor, pixel_threshold: float) -> Tensor:
    """Mean probability [M] over the confident pixels of each mask in [M, pixels]; 0 without any."""
    sure = probabilities > pixel_threshold
    return (probabilities * sure).sum(1) / sure.sum(1).clamp(min=1)
