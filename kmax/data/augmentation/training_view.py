"""From decoded images to one training sample.

Order of the steps: resize to fit, random scale, colours, pad, crop, flip; then panoptic copy-paste of a
second image that went through the same steps. All random numbers of a sample come from one generator, so a
sample depends on nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from kmax.config import Augmentation, Data
from kmax.data.augmentation.colour_policies import ColorTransform, draw_color_transform
from kmax.data.augmentation.copy_paste import copy_paste
from kmax.data.augmentation.fitting import (
    Pipeline,
    fitting_size,
    resample_image,
    resample_owner,
    scaled_box_size,
)
from kmax.data.augmentation.resampling import Window, whole
from kmax.data.augmentation.view import View, targets_of, words
from kmax.data.batch import INPUT_MEAN
from kmax.data.formats.coco_panoptic import Image
from kmax.data.geometry import Size, draw_scale, scaled_size
from kmax.data.image_source import PADDING_OWNER, DecodedImage, ImageSource, SegmentLabels

MAX_REDRAWS = 100
REDRAW_STRIDE = 4  # of the labels that `redraw_below` counts


def train_view(
    rng: Generator, source: ImageSource, index: int, partner: int, data: Data
) -> tuple[Image, View]:
    """The training sample of the image `index`, with the image `partner` pasted if the run uses copy-paste.

    Returns:
        The image that was used in the end (`redraw_below` may replace it), and the view.
    """
    if data.augmentation is None:
        size = (data.image_size[0], data.image_size[1])
        return source.images[index], plain_view(source[index], size, data.preprocessing, data.native_size)
    view = _with_paste(rng, source, index, partner, data, data.augmentation)
    if data.augmentation.redraw_below is not None:
        for _ in range(MAX_REDRAWS):
            if (
                np.count_nonzero(targets_of(view, REDRAW_STRIDE).segments >= 0)
                > data.augmentation.redraw_below
            ):
                break
            index, partner = rng.integers(len(source), size=2).tolist()
            view = _with_paste(rng, source, index, partner, data, data.augmentation)
    return source.images[index], view


def _with_paste(
    rng: Generator, source: ImageSource, index: int, partner: int, data: Data, augmentation: Augmentation
) -> View:
    view = augmented_view(rng, source[index], data, augmentation)
    if augmentation.copy_paste is None:
        return view
    pasted = augmented_view(rng, source[partner], data, augmentation, augmentation.copy_paste.scale_factor)
    return copy_paste(rng, view, pasted, data.preprocessing)


def plain_view(
    decoded: DecodedImage, target: Size, preprocessing: Pipeline = None, native: bool = False
) -> View:
    """Resize to fit and pad at the bottom and right, as at test time."""
    size = fitting_size(decoded.rgb.shape[:2], target, preprocessing, native)
    pixels = resample_image(decoded.rgb, [size], whole(size), preprocessing)
    owner = resample_owner(decoded, [size], whole(size), preprocessing)
    return place(pixels, owner, decoded.labels, target, (0, 0))


def augmented_view(
    rng: Generator, decoded: DecodedImage, data: Data, augmentation: Augmentation, scale_factor: float = 1.0
) -> View:
    """Resize to fit, scale, change the colours, pad, crop and flip at random.

    Args:
        scale_factor: multiplies the range of scales; less than 1 for an image to be pasted.
    """
    parameters = draw_parameters(rng, decoded.rgb.shape[:2], data, augmentation, scale_factor)
    return render(decoded, parameters, (data.image_size[0], data.image_size[1]), data.preprocessing)


# -------------------------------------------------------------------------------------------- one random view


@dataclass(frozen=True)
class ViewParameters:
    """All random parameters of one view.

    Attributes:
        sizes: (height, width) that the image is resized to, in turn; the last is the scaled one.
        color_transform: of the scaled image; None: no change.
        offset: rows and columns of padding above and to the left, where the scaled image is smaller.
        start: the first row and column of the crop, where it is larger.
        flip: whether the view is mirrored left-right.
    """

    sizes: list[Size]
    color_transform: ColorTransform | None
    offset: Size
    start: Size
    flip: bool


def draw_parameters(
    rng: Generator, original: Size, data: Data, augmentation: Augmentation, factor: float
) -> ViewParameters:
    """Draw a view of an image of the size `original`.

    The order of the draws is deeplab2's: scale, colours, padding, crop, flip. bytedance's pads at the bottom
    and right, and applies the scale to the box of the input.

    Args:
        factor: multiplies the range of scales; less than 1 for an image to be pasted.
    """
    target = (data.image_size[0], data.image_size[1])
    low, high = (factor * bound for bound in augmentation.scale)
    scale = draw_scale(rng, low, high, augmentation.scale_step)
    if data.preprocessing == "torch":
        sizes = [scaled_box_size(original, target, scale)]
    else:
        base = original if data.native_size else fitting_size(original, target, data.preprocessing)
        sizes = [base, scaled_size(base, scale)]
    color_transform = draw_color_transform(rng, augmentation)
    missing = [expected - side for expected, side in zip(target, sizes[-1], strict=True)]
    top, left = 0, 0
    if data.preprocessing != "torch":  # the largest offset is not drawn, as in the original
        top, left = (int(rng.integers(0, max(number, 1))) for number in missing)
    row, column = (int(rng.integers(0, max(-number, 0) + 1)) for number in missing)
    return ViewParameters(
        sizes, color_transform, (top, left), (row, column), bool(rng.random() < augmentation.flip)
    )


def render(decoded: DecodedImage, parameters: ViewParameters, target: Size, preprocessing: Pipeline) -> View:
    """The view of these parameters; only the visible part of the image is resampled."""
    size = parameters.sizes[-1]
    rows, columns = (
        slice(start, min(start + side, limit))
        for start, side, limit in zip(parameters.start, target, size, strict=True)
    )
    window = rows, columns
    pixels = _resample_and_recolor(decoded.rgb, parameters, window, preprocessing)
    owner = resample_owner(decoded, parameters.sizes, window, preprocessing)
    top, left = parameters.offset
    if parameters.flip:
        pixels, owner = pixels[:, ::-1], owner[:, ::-1]
        if preprocessing != "torch":  # which pads after flipping
            left = target[1] - left - owner.shape[1]
    return place(pixels, owner, decoded.labels, target, (top, left))


def place(
    pixels: NDArray[Any], owner: NDArray[Any], labels: SegmentLabels, target: Size, offset: Size
) -> View:
    """Put pixels [h, w, C] and their owners on a canvas of padding of the size `target`."""
    (height, width), (top, left) = owner.shape, offset
    box = slice(top, top + height), slice(left, left + width)
    owners = np.full(target, PADDING_OWNER, np.int32)
    owners[box] = owner
    return View(_canvas(pixels, target, box), owners, labels, (height, width), offset)


def _canvas(pixels: NDArray[Any], target: Size, box: Window) -> NDArray[Any]:
    if pixels.dtype == np.uint8:
        canvas = np.zeros((*target, 4), np.uint8)
        if pixels.shape[2] == 4:
            words(canvas)[box] = words(pixels)
        else:
            canvas[..., :3][box] = pixels
        return canvas
    planes = np.full((3, *target), INPUT_MEAN, np.float32)
    for channel, plane in enumerate(planes):
        plane[box] = pixels[..., channel]
    return planes.transpose(1, 2, 0)


def _resample_and_recolor(
    rgb: NDArray[np.uint8], parameters: ViewParameters, window: Window, preprocessing: Pipeline
) -> NDArray[Any]:
    """A window of the scaled image after its change of colours, which may depend on the pixels around it."""
    transform, size = parameters.color_transform, parameters.sizes[-1]
    if transform is None:
        return resample_image(rgb, parameters.sizes, window, preprocessing)
    outer = whole(size)
    if transform.reach is not None:
        reach = transform.reach
        rows, columns = (
            slice(max(part.start - reach, 0), min(part.stop + reach, limit))
            for part, limit in zip(window, size, strict=True)
        )
        outer = rows, columns
    pixels = resample_image(rgb, parameters.sizes, outer, preprocessing, transform.dtype)
    if transform.dtype is np.float32:
        pixels = pixels[..., :3]
    rows, columns = (
        slice(part.start - around.start, part.stop - around.start)
        for part, around in zip(window, outer, strict=True)
    )
    return transform.apply(pixels, size)[rows, columns]
