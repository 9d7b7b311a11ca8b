"""A metric of panoptic maps for use inside a training loop, with the interface of torchmetrics.

    metric = PanopticQuality(categories)
    metric.update(truth_map, truth_segments, predicted_map, predicted_segments, image_id)
    metric.merge_across_ranks()                                                     # with torch.distributed
    metric.compute().group("all")["pq"]

The results equal those of evaluating files with the same maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.data.formats.coco_panoptic import CategoryFacts, ImageId
from kmax.errors import InputWarnings
from kmax.evaluation.panoptic import pq
from kmax.evaluation.panoptic.explanation import Explanation, explain
from kmax.evaluation.panoptic.image_segments import check_pair
from kmax.evaluation.panoptic.pairs import count_pairs
from kmax.evaluation.panoptic.panoptic_files import ImagePair, unique_segments
from kmax.evaluation.panoptic.segment_outcomes import SegmentOutcomes, find_outcomes
from kmax.evaluation.semantic import miou


@dataclass(frozen=True)
class _Image:
    """The counts of one image."""

    image_id: ImageId
    quality: pq.Counts
    pixels: miou.PixelCounts
    outcomes: SegmentOutcomes


class PanopticQuality:
    """Panoptic quality, its error analysis, and mean IoU, updated image by image.

    Args:
        categories: of the dataset, in its order.
    """

    def __init__(self, categories: Sequence[CategoryFacts]) -> None:
        self.categories = list(categories)
        self._classes = {category.id: index for index, category in enumerate(self.categories)}
        self.reset()

    def reset(self) -> None:
        """Remove all images."""
        self._images: list[_Image] = []
        self._warnings = InputWarnings()

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
            truth_segments: as `segments_info` of COCO's panoptic JSON, with id, category_id, iscrowd, area.
            predicted_segments: the same, with id and category_id.
            image_id: unique over all ranks.

        Raises:
            InputError: ids that are missing in the map or in the segments; an unknown category.
            ValueError: maps that are not integers [H, W] of the same size.
        """
        sides = (("ground truth", truth_segments), ("predictions", predicted_segments))
        listed = (unique_segments(segments, image_id, side, self._warnings) for side, segments in sides)
        pair = ImagePair(image_id, Path("truth"), Path("prediction"), *listed)
        maps = [_as_ids(ids) for ids in (truth, predicted)]
        if maps[0].shape != maps[1].shape:
            raise ValueError(
                f"image {image_id}: maps of different sizes: {maps[0].shape} and {maps[1].shape}"
            )
        image = check_pair(pair, count_pairs(*maps), self._classes, self._warnings)
        size = len(self.categories)
        matching = pq.match_segments(image, size)
        counts = pq.count(image, matching, size), miou.count_pixels(image, size)
        self._images.append(_Image(image_id, *counts, find_outcomes(image, matching)))

    def merge(self, other: PanopticQuality) -> None:
        """Add the images of another metric."""
        self._images.extend(other._images)
        self._warnings.merge(other._warnings)

    def merge_across_ranks(self) -> None:
        """Collect the images of all ranks on each rank, in the order of ranks; no effect in a single process.

        An image that several ranks have seen, as with padded samplers, counts once.
        """
        import torch.distributed as dist

        if not (dist.is_available() and dist.is_initialized()):
            return
        states: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(states, (self._images, self._warnings))
        self.reset()
        seen: set[ImageId] = set()
        for images, warnings in states:
            self._images.extend(image for image in images if image.image_id not in seen)
            seen.update(image.image_id for image in images)
            self._warnings.merge(warnings)

    def compute(self) -> pq.PQResult:
        """Panoptic quality of all images so far."""
        counts = [image.quality for image in self._images]
        return pq.collect(self.categories, self._names(), counts, self._warnings.lines())

    def compute_explanation(self) -> Explanation:
        """The error analysis of all images so far."""
        return explain(self.categories, self._names(), [image.outcomes for image in self._images])

    def compute_miou(self) -> miou.MiouResult:
        """Mean IoU of all images so far."""
        counts = [image.pixels for image in self._images]
        return miou.collect(self.categories, self._names(), counts, self._warnings.lines())

    def _names(self) -> list[ImageId]:
        return [image.image_id for image in self._images]


def _as_ids(ids: Any) -> NDArray[np.int32]:
    array = np.asarray(ids.cpu() if hasattr(ids, "cpu") else ids)
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise ValueError(f"a map of ids must be integers [H, W], not {array.dtype} {array.shape}")
    if array.size and not 0 <= array.min() <= array.max() < 2**24:
        raise ValueError(f"segment ids must lie in 0..{2**24 - 1}")
    return array.astype(np.int32, copy=False)
