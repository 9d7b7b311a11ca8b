"""Pixel-wise panoptic post-processing of the TensorFlow original (MaX-DeepLab, section 3.4).

Each pixel goes to the likeliest of the confident clusters, if that is the likeliest of all clusters too and
its share of a softmax over the confident ones exceeds the pixel threshold. Nothing is reordered, and no mask
is dropped for its overlaps; area limits hold as in the mask-wise mode. The PyTorch original has no such mode.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kmax.config import Predict
from kmax.data.geometry import resize_labels
from kmax.inference.enlarge import Size2, to_input
from kmax.inference.maskwise import confident
from kmax.inference.panoptic_map import PanopticMap, drop_small, merge_stuff, number_segments, pixel_scores


def pixelwise(
    class_logits: Tensor,
    mask_logits: Tensor,
    *,
    input_size: Size2,
    content_size: Size2,
    original_size: Size2,
    isthing: Tensor,
    predict: Predict,
) -> PanopticMap:
    """Turn the network's output for one image into a panoptic map; arguments as in `postprocess.maskwise`.

    A segment's score is the mean share of its pixels times the mean class score of their clusters.
    """
    mask_logits = mask_logits.float()
    scores, classes, kept = confident(class_logits, isthing, predict, inclusive=False)
    if not len(kept):
        return PanopticMap(np.zeros(original_size, dtype=np.int32), [])
    order = torch.argsort(scores[kept], descending=True, stable=True)
    kept = kept[order]

    winners, shares = [], []
    enlargement = to_input((mask_logits.shape[1], mask_logits.shape[2]), input_size)
    for band in enlargement.bands(mask_logits):
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
    image = slice(content_size[0]), slice(content_size[1])
    seen = indices[image]
    segment_scores = pixel_scores(
        segment_of,
        np.bincount(seen.ravel(), minlength=len(kept) + 1),
        np.bincount(
            seen.ravel(), weights=torch.cat(shares).cpu().numpy()[image].ravel(), minlength=len(kept) + 1
        ),
        scores[kept].cpu().numpy(),
    )
    return number_segments(resize_labels(segment_of[seen], original_size), mask_classes, segment_scores)
