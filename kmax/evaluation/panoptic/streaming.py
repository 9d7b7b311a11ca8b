"""Panoptic quality inside a training loop, in the manner of torchmetrics: update, compute, merge over ranks.

    metric = PanopticQuality(categories)
    metric.update(truth_map, truth_segments, predicted_map, predicted_segments, image_id)
    metric.merge_across_ranks()                                                     # with torch.distributed
    metric.compute().group("all")["pq"]

The numbers are those of the evaluation of files with the same maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.evaluation.panoptic import pq
from kmax.evaluation.panoptic.explanation import Explanation, explain
from kmax.evaluation.panoptic.image_segments import check_pair
from kmax.evaluation.panoptic.pairs import count_pairs
from kmax.evaluation.panoptic.panoptic_files import (
    CategoryFacts,
    ImageId,
    ImagePair,
    Oddities,
    unique_segments,
)
from kmax.evaluation.panoptic.segment_outcomes import Outcomes, outcomes
from kmax.evaluation.semantic import miou


@dataclass(frozen=True)
class _Image:
    """What one image counts."""

    image_id: ImageId
    quality: pq.Counts
    pixels: miou.PixelCounts
    outcomes: Outcomes


class PanopticQuality:
    """Counts of panoptic quality, of where it is lost, and of mean IoU, image by image.

    Args:
        categories: of the dataset, in its order.
    """

    def __init__(self, categories: Sequence[CategoryFacts]) -> None:
        self.categories = list(categories)
        self._classes = {category.id: index for index, category in enumerate(self.categories)}
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._images: list[_Image] = []
        self._oddities = Oddities()

    def update(
        self,
        truth: Any,
        truth_segments: list[dict[str, Any]],
        predicted: Any,
        predicted_segments: list[dict[str, Any]],
        image_id: ImageId,
    ) -> None:
        """Add one image.

        Args:
            truth, predicted: integers [H, W] of segment ids below 2**24, 0 for void; tensors or arrays.
            truth_segments: {id, category_id, iscrowd, area} each, as `segments_info` of COCO's panoptic JSON.
            predicted_segments: {id, category_id} each.
            image_id: unique over all ranks.

        Raises:
            InputError: ids that are not in both map and segments; an unknown category.
            ValueError: maps that are no integers [H, W] of one size.
        """
        sides = (("ground truth", truth_segments), ("predictions", predicted_segments))
        listed = (unique_segments(segments, image_id, side, self._oddities) for side, segments in sides)
        pair = ImagePair(image_id, Path("truth"), Path("prediction"), *listed)
        maps = [_as_ids(ids) for ids in (truth, predicted)]
        if maps[0].shape != maps[1].shape:
            raise ValueError(
                f"image {image_id}: maps of different sizes: {maps[0].shape} and {maps[1].shape}"
            )
        image = check_pair(pair, count_pairs(*maps), self._classes, self._oddities)
        size = len(self.categories)
        matching = pq.match_segments(image, size)
        counts = pq.count(image, matching, size), miou.count_pixels(image, size)
        self._images.append(_Image(image_id, *counts, outcomes(image, matching)))

    def merge(self, other: PanopticQuality) -> None:
        """Add the images of another."""
        self._images.extend(other._images)
        self._oddities.merge(other._oddities)

    def merge_across_ranks(self) -> None:
        """Make every rank hold the images of all, in the order of ranks; does nothing in one process.

        An image that several ranks saw, as padded samplers make them, counts once.
        """
        import torch.distributed as dist

        if not (dist.is_available() and dist.is_initialized()):
            return
        states: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(states, (self._images, self._oddities))
        self.reset()
        seen: set[ImageId] = set()
        for images, oddities in states:
            self._images.extend(image for image in images if image.image_id not in seen)
            seen.update(image.image_id for image in images)
            self._oddities.merge(oddities)

    def compute(self) -> pq.PQResult:
        """Panoptic quality of all images so far."""
        counts = [image.quality for image in self._images]
        return pq.collect(self.categories, self._names(), counts, self._oddities.lines())

    def compute_explanation(self) -> Explanation:
        """Where the panoptic quality of all images so far is lost."""
        return explain(self.categories, self._names(), [image.outcomes for image in self._images])

    def compute_miou(self) -> miou.MiouResult:
        """Mean IoU of all images so far."""
        counts = [image.pixels for image in self._images]
        return miou.collect(self.categories, self._names(), counts, self._oddities.lines())

    def _names(self) -> list[ImageId]:
        return [image.image_id for image in self._images]


def _as_ids(ids: Any) -> NDArray[np.int32]:
    array = np.asarray(ids.cpu() if hasattr(ids, "cpu") else ids)
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise ValueError(f"a map of ids must be integers [H, W], not {array.dtype} {array.shape}")
    if array.size and not 0 <= array.min() <= array.max() < 2**24:
        raise ValueError(f"segment ids must lie in 0..{2**24 - 1}")
    return array.astype(np.int32, copy=False)
