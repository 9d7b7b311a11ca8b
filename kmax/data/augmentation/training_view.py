"""From decoded images to one training sample.

Order of the steps: resize to fit, random scale, colours, pad, crop, flip; then panoptic copy-paste of a
second image that went through the same steps. All random numbers of a sample come from one generator, so a
sample depends on nothing else.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from kmax.config import Augmentation, Data
from kmax.data.augmentation.copy_paste import copy_paste
from kmax.data.augmentation.fitting import Preprocessing, fitting_size, resample_image, resample_owner
from kmax.data.augmentation.jitter import draw, place, render
from kmax.data.augmentation.resampling import whole
from kmax.data.augmentation.training_targets import targets_of
from kmax.data.augmentation.view import View
from kmax.data.formats.coco_panoptic import Image
from kmax.data.geometry import Size
from kmax.data.image_source import Decoded, Source

MOST_REDRAWS = 100
REDRAW_STRIDE = 4  # of the labels that `redraw_below` counts


def plain_view(
    decoded: Decoded, target: Size, preprocessing: Preprocessing = None, native: bool = False
) -> View:
    """Resize to fit and pad at the bottom and right, as at test time."""
    size = fitting_size(decoded.rgb.shape[:2], target, preprocessing, native)
    pixels = resample_image(decoded.rgb, [size], whole(size), preprocessing)
    owner = resample_owner(decoded, [size], whole(size), preprocessing)
    return place(pixels, owner, decoded.labels, target, (0, 0))


def augmented_view(
    rng: Generator, decoded: Decoded, data: Data, augmentation: Augmentation, scale_factor: float = 1.0
) -> View:
    """Resize to fit, scale, change the colours, pad, crop and flip at random.

    Args:
        scale_factor: multiplies the range of scales; less than 1 for an image to be pasted.
    """
    draws = draw(rng, decoded.rgb.shape[:2], data, augmentation, scale_factor)
    return render(decoded, draws, (data.image_size[0], data.image_size[1]), data.preprocessing)


def train_view(rng: Generator, source: Source, index: int, partner: int, data: Data) -> tuple[Image, View]:
    """The training sample of the image `index`, with the image `partner` pasted where the run asks for it.

    Returns:
        The image that it is of in the end (`redraw_below` may ask for another one), and the view.
    """
    if data.augmentation is None:
        size = (data.image_size[0], data.image_size[1])
        return source.images[index], plain_view(source[index], size, data.preprocessing, data.native_size)
    view = _with_paste(rng, source, index, partner, data, data.augmentation)
    if data.augmentation.redraw_below is not None:
        for _ in range(MOST_REDRAWS):
            if (
                np.count_nonzero(targets_of(view, REDRAW_STRIDE).segments >= 0)
                > data.augmentation.redraw_below
            ):
                break
            index, partner = rng.integers(len(source), size=2).tolist()
            view = _with_paste(rng, source, index, partner, data, data.augmentation)
    return source.images[index], view


def _with_paste(
    rng: Generator, source: Source, index: int, partner: int, data: Data, augmentation: Augmentation
) -> View:
    view = augmented_view(rng, source[index], data, augmentation)
    if augmentation.copy_paste is None:
        return view
    pasted = augmented_view(rng, source[partner], data, augmentation, augmentation.copy_paste.scale_factor)
    return copy_paste(rng, view, pasted, data.preprocessing)
