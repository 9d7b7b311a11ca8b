"""Mask-wise panoptic post-processing: from class and mask logits to a map of segments (paper, section 3.3).

Masks compete per pixel by a softmax over the clusters. Clusters whose class is confident are pasted on an
empty canvas from the most to the least confident; a mask that has lost too large a share of its pixels to
earlier ones is dropped, and segments of one stuff class are merged. The originals agree on that; they differ:

==================  =======================================  ==============================================
choice              "tf" (deeplab2)                          "torch" (bytedance/kmax-deeplab)
==================  =======================================  ==============================================
decided on          the padded network input                 the original image
back to the image   label map, nearest, corners aligned      logits, bilinear, corners aligned if width odd
confidence test     class score >= threshold                 class score > threshold
mask score          mean over the stride-4 logits            mean over the enlarged logits
area limits         things by mask, stuff by class           none
==================  =======================================  ==============================================

Legend of shapes: N clusters, M confident clusters, K classes, h w pixels at stride 4, H W pixels of the map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from kmax.config import Predict
from kmax.data.geometry import resize_labels

Size2 = tuple[int, int]
Flavour = Literal["tf", "torch"]
# Elements that go through the softmax at a time: bounds the memory beside the enlarged logits themselves.
SOFTMAX_CHUNK_ELEMENTS = 2**24


@dataclass(frozen=True)
class Segment:
    """One predicted segment: its id in the map, contiguous class, and score (class times mask score)."""

    id: int
    class_index: int
    score: float


@dataclass(frozen=True)
class PanopticMap:
    """A panoptic prediction: `ids` int32 [H, W] with 0 = void; each of `segments` has pixels."""

    ids: NDArray[np.int32]
    segments: list[Segment]


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
        mask_logits: [N, h, w] at stride 4 of the padded input.
        input_size: (height, width) of the network input.
        content_size: (height, width) of its top left part that is image; the rest is padding.
        original_size: (height, width) of the image file.
        isthing: bool [K].
        predict: thresholds and limits.
        flavour: which original's choices hold, see the module's table.
    """
    mask_logits = mask_logits.float()
    scores, classes = class_logits.float().softmax(-1)[:, :-1].max(-1)
    things = isthing.to(classes.device)[classes]
    threshold = torch.where(things, predict.class_threshold_thing, predict.class_threshold_stuff)
    confident = scores >= threshold if flavour == "tf" else scores > threshold
    kept = confident.nonzero()[:, 0]

    content_size = (min(content_size[0], input_size[0]), min(content_size[1], input_size[1]))
    if flavour == "tf":
        logits = enlarge(mask_logits, input_size, align_corners=True)
        mask_scores = _mask_scores(mask_logits.softmax(0)[kept].flatten(1), predict.pixel_threshold)
        probabilities = _softmax_of(logits, kept)
    else:
        logits = to_original_logits(mask_logits, input_size, content_size, original_size)
        probabilities = _softmax_of(logits, kept)
        mask_scores = _mask_scores(probabilities.flatten(1), predict.pixel_threshold)
    del logits
    reorder = scores[kept] ** predict.reorder_class_weight * mask_scores**predict.reorder_mask_weight
    order = torch.argsort(reorder, descending=True, stable=True)
    kept, masks = kept[order], (probabilities > predict.pixel_threshold)[order]
    del probabilities

    canvas = paste(masks, predict.overlap_threshold).cpu().numpy()
    ids = _merge_stuff(canvas, classes[kept].cpu().numpy(), things[kept].cpu().numpy())
    if flavour == "tf":
        ids = _drop_small(ids, things[kept].cpu().numpy(), predict)
        ids = resize_labels(ids[: content_size[0], : content_size[1]], original_size)
    segment_scores = (scores[kept] * mask_scores[order]).cpu().numpy()
    return _number_segments(ids, classes[kept].cpu().numpy(), segment_scores)


def enlarge(logits: Tensor, size: Size2, *, align_corners: bool) -> Tensor:
    """Bilinear resize of [N, h, w] to [N, *size]."""
    return F.interpolate(logits[None], size, mode="bilinear", align_corners=align_corners)[0]


def to_original_logits(
    logits: Tensor, input_size: Size2, content_size: Size2, original_size: Size2
) -> Tensor:
    """Logits [N, h, w] at the size of the image file as flavour "torch" does it: enlarge, crop, enlarge."""
    align_corners = input_size[1] % 2 == 1
    logits = enlarge(logits, input_size, align_corners=align_corners)
    logits = logits[:, : content_size[0], : content_size[1]]
    return enlarge(logits, original_size, align_corners=align_corners)


def paste(masks: Tensor, overlap_threshold: float) -> Tensor:
    """Paste masks in order; a mask with a too small share of free pixels is dropped.

    Args:
        masks: bool [M, H, W], from the most to the least confident.
        overlap_threshold: a mask stays if its free pixels are more than this share of its pixels.

    Returns:
        int32 [H, W]: 1 + index of the mask at each pixel, 0 where there is none.
    """
    areas = masks.flatten(1).sum(1).float()
    wanted = (areas * overlap_threshold).tolist()
    canvas = torch.zeros(masks.shape[1:], dtype=torch.int32, device=masks.device)
    free = torch.ones_like(canvas, dtype=torch.bool)
    for index, mask in enumerate(masks):
        visible = mask & free
        if float(visible.sum()) > wanted[index]:
            canvas.masked_fill_(visible, index + 1)
            free &= ~mask
    return canvas


def _softmax_of(logits: Tensor, kept: Tensor) -> Tensor:
    """Probability of the clusters `kept` [M] in the softmax of [N, H, W] over N, a band of rows at a time."""
    rows = max(1, SOFTMAX_CHUNK_ELEMENTS // (logits.shape[0] * logits.shape[2]))
    return torch.cat([band.softmax(0)[kept] for band in torch.split(logits, rows, dim=1)], dim=1)


def _mask_scores(probabilities: Tensor, pixel_threshold: float) -> Tensor:
    """Mean probability [M] over the confident pixels of each mask in [M, pixels]; 0 without any."""
    confident = probabilities > pixel_threshold
    return (probabilities * confident).sum(1) / confident.sum(1).clamp(min=1)


def _merge_stuff(
    canvas: NDArray[np.int32], classes: NDArray[np.int64], things: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """Give all masks of one stuff class the number of the first of them that has pixels."""
    first: dict[int, int] = {}
    table = np.arange(len(classes) + 1, dtype=np.int32)
    present = np.bincount(canvas.ravel(), minlength=len(table)) > 0
    for index, (category, thing) in enumerate(zip(classes.tolist(), things.tolist(), strict=True), start=1):
        if not thing and present[index]:
            table[index] = first.setdefault(category, index)
    return table[canvas]


def _drop_small(ids: NDArray[np.int32], things: NDArray[np.bool_], predict: Predict) -> NDArray[np.int32]:
    """Void segments below the area limit of their kind; a segment of exactly the limit stays."""
    limits = np.where(np.concatenate([[False], things]), predict.thing_area_limit, predict.stuff_area_limit)
    areas = np.bincount(ids.ravel(), minlength=len(limits))
    table = np.where(areas >= limits, np.arange(len(limits)), 0).astype(np.int32)
    return table[ids]


def _number_segments(
    ids: NDArray[np.int32], classes: NDArray[np.int64], scores: NDArray[np.float32]
) -> PanopticMap:
    """Number the segments that still have pixels 1, 2, ... from the most to the least confident."""
    present = np.flatnonzero(np.bincount(ids.ravel(), minlength=len(classes) + 1)[1:])
    table = np.zeros(len(classes) + 1, dtype=np.int32)
    table[present + 1] = np.arange(1, len(present) + 1)
    segments = [
        Segment(number, int(classes[index]), float(scores[index]))
        for number, index in enumerate(present.tolist(), start=1)
    ]
    return PanopticMap(table[ids], segments)
