"""Panoptic maps of images that are too large to be in memory as a whole, in bands of rows.

The network's input has its usual size. What grows with the image is the post-processing: here, no array has
an entry for each pixel of the image. The maps are those of `kmax.inference.panoptic_postprocess`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kmax.config import Flavour, Predict
from kmax.data.augmentation.resampling import nearest_centres
from kmax.data.geometry import nearest
from kmax.errors import InputError
from kmax.inference.overlaps import TWO_AT_MOST, PackedOverlaps
from kmax.inference.panoptic_map import PanopticMap, Segment, drop_small, merge_stuff
from kmax.inference.panoptic_postprocess import confident, rank_masks
from kmax.inference.postprocess_flavour import POSTPROCESS_FLAVOURS
from kmax.inference.segment_batch import require_finite, segment_images
from kmax.inference.upsampling import ImageSizes, Size2, to_image
from kmax.model.kmax import KMaX

BAND_PIXELS = 2**22


@dataclass(frozen=True)
class BandedMap:
    """A panoptic prediction.

    Attributes:
        size: (height, width) of the map.
        segments: each has pixels.
        bands: makes the bands of rows from top to bottom, int32 [R, W] of segment ids with 0 = void.
    """

    size: Size2
    segments: list[Segment]
    bands: Callable[[], Iterator[NDArray[np.int32]]]

    def shrunk(self, size: Size2) -> PanopticMap:
        """The map at a smaller size, by the nearest pixel as Pillow does, with all segments."""
        rows, columns = (nearest_centres(*lengths) for lengths in zip(self.size, size, strict=True))
        found, start = [], 0
        for band in self.bands():
            first, last = np.searchsorted(rows, (start, start + len(band)))
            found.append(band[rows[first:last] - start][:, columns])
            start += len(band)
        return PanopticMap(np.concatenate(found), self.segments)


def require_bands(flavour: Flavour, predict: Predict) -> None:
    """Raise InputError if the map of a large image cannot be made in bands."""
    if _at_image_size(flavour, predict) and predict.pixel_threshold < TWO_AT_MOST:
        raise InputError(
            f"predict.pixel_threshold is {predict.pixel_threshold}: images of this size need at least "
            f"{TWO_AT_MOST} with weights of the torch flavour"
        )


@torch.inference_mode()
def segment_large_image(
    model: KMaX, image: Tensor, content: Size2, original: Size2, isthing: Tensor, predict: Predict, name: str
) -> BandedMap:
    """Panoptic map of one large image.

    Args:
        model: the network.
        image: [1, 3, H, W] on the model's device.
        content: (height, width) of the part of the input that is image.
        original: (height, width) of the map.
        isthing: bool [K].
        predict: thresholds and limits, see `require_bands`.
        name: of the image, for errors.

    Raises:
        InputError: the network's output is not finite.
    """
    if not _at_image_size(model.arguments.flavour, predict):
        (prediction,) = segment_images(model, image, [content], [content], isthing, predict, [name])
        return enlarged(prediction.panoptic, original)
    output = model(image)
    logits = output.class_logits[0], output.mask_logits[0]
    require_finite(*logits, name)
    sizes = ImageSizes((image.shape[2], image.shape[3]), content, original)
    return maskwise_bands(*logits, sizes, isthing, predict, model.arguments.flavour)


def enlarged(panoptic: PanopticMap, size: Size2) -> BandedMap:
    """A map at another size, by the nearest pixel, corners on corners."""
    rows, columns = (nearest(*lengths) for lengths in zip(panoptic.ids.shape, size, strict=True))
    seen = np.unique(panoptic.ids[np.unique(rows)][:, np.unique(columns)])
    kept = [segment for segment in panoptic.segments if segment.id in seen]
    table = np.zeros(len(panoptic.segments) + 1, np.int32)
    table[[segment.id for segment in kept]] = np.arange(1, len(kept) + 1)
    ids = table[panoptic.ids]

    def bands() -> Iterator[NDArray[np.int32]]:
        step = max(1, BAND_PIXELS // size[1])
        for start in range(0, size[0], step):
            yield ids[rows[start : start + step, None], columns]

    segments = [
        Segment(number, segment.class_index, segment.score) for number, segment in enumerate(kept, start=1)
    ]
    return BandedMap(size, segments, bands)


def maskwise_bands(
    class_logits: Tensor,
    mask_logits: Tensor,
    sizes: ImageSizes,
    isthing: Tensor,
    predict: Predict,
    flavour: Flavour,
) -> BandedMap:
    """As `kmax.inference.panoptic_postprocess.maskwise`, for flavours that decide at the image's size."""
    differences = POSTPROCESS_FLAVOURS[flavour]
    assert differences.at_image_size
    assert not differences.scores_by_pixels
    mask_logits = mask_logits.float()
    scores, classes, kept = confident(class_logits, isthing, predict, inclusive=differences.threshold_passes)
    things = isthing.to(classes.device)[classes]
    overlaps = PackedOverlaps(len(kept), predict.pixel_threshold)
    if not len(kept):
        return enlarged(PanopticMap(np.zeros((1, 1), np.int32), []), sizes.original)
    for band in to_image((mask_logits.shape[1], mask_logits.shape[2]), sizes).bands(mask_logits):
        overlaps.add(band.weights[:, kept], band.total)
    order, mask_scores = rank_masks(overlaps, mask_logits, scores[kept], kept, predict, differences)
    table = overlaps.decide(order.cpu().numpy(), predict.overlap_threshold)

    kept = kept[order]
    mask_classes, mask_things = classes[kept].cpu().numpy(), things[kept].cpu().numpy()
    areas = np.bincount(table, overlaps.counts(), minlength=len(kept) + 1)
    segment_of = merge_stuff(areas, mask_classes, mask_things)
    if differences.area_limits:
        segment_of = drop_small(segment_of, areas, mask_things, predict)
    segment_scores = (scores[kept] * mask_scores[order]).cpu().numpy()
    pixels = np.bincount(segment_of[table], overlaps.counts(), minlength=len(kept) + 1)
    present = np.flatnonzero(pixels[1:])
    numbers = np.zeros(len(kept) + 1, np.int32)
    numbers[present + 1] = np.arange(1, len(present) + 1)
    ids = numbers[segment_of[table]]
    segments = [
        Segment(number, int(mask_classes[index]), float(segment_scores[index]))
        for number, index in enumerate(present.tolist(), start=1)
    ]
    return BandedMap(sizes.original, segments, lambda: (ids[pairs] for pairs in overlaps.pairs()))


def _at_image_size(flavour: Flavour, predict: Predict) -> bool:
    return predict.mode == "maskwise" and POSTPROCESS_FLAVOURS[flavour].at_image_size
