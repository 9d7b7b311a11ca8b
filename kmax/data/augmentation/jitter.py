"""One image to a view of it: resized to fit, scaled, recoloured, padded, cropped and flipped at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from kmax.config import Augmentation, Data
from kmax.data.augmentation.colour_policy import FULL, SCALED, draw_policy
from kmax.data.augmentation.colour_ssd import draw_ssd
from kmax.data.augmentation.fitting import (
    Preprocessing,
    fitting_size,
    resample_image,
    resample_owner,
    scaled_box_size,
)
from kmax.data.augmentation.recoloring import Recoloring, draw_jitter
from kmax.data.augmentation.resampling import Window, whole
from kmax.data.augmentation.view import MEAN, PADDING_OWNER, View, words
from kmax.data.geometry import Size, draw_scale, scaled_size
from kmax.data.image_source import Decoded, Labels


@dataclass(frozen=True)
class Draws:
    """All that is random about one view.

    Attributes:
        sizes: (height, width) that the image is resized to, in turn; the last is the scaled one.
        recoloring: of the scaled image; None: none.
        offset: rows and columns of padding above and to the left, where the scaled image is smaller.
        start: the first row and column of the crop, where it is larger.
        flip: whether the view is mirrored left-right.
    """

    sizes: list[Size]
    recoloring: Recoloring | None
    offset: Size
    start: Size
    flip: bool


def draw(rng: Generator, original: Size, data: Data, augmentation: Augmentation, factor: float) -> Draws:
    """Draw a view of an image of the size `original`.

    The order of the draws is deeplab2's: scale, colours, padding, crop, flip. bytedance's pads at the bottom
    and right, and measures the scale by the box that the input is.

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
    recoloring = draw_recoloring(rng, augmentation)
    missing = [wanted - side for wanted, side in zip(target, sizes[-1], strict=True)]
    top, left = 0, 0
    if data.preprocessing != "torch":  # the largest offset is not drawn, as in the original
        top, left = (int(rng.integers(0, max(number, 1))) for number in missing)
    row, column = (int(rng.integers(0, max(-number, 0) + 1)) for number in missing)
    return Draws(sizes, recoloring, (top, left), (row, column), bool(rng.random() < augmentation.flip))


def draw_recoloring(rng: Generator, augmentation: Augmentation) -> Recoloring | None:
    """Draw the change of colours that the run asks for."""
    match augmentation.color_policy:
        case "simple_classification_policy":
            return draw_policy(rng, FULL)
        case "simple_classification_policy_magnitude_scale_0.2":
            return draw_policy(rng, SCALED)
        case "ssd":
            return draw_ssd(rng)
    strength = augmentation.color_jitter
    return draw_jitter(rng, strength) if strength > 0 else None


def render(decoded: Decoded, draws: Draws, target: Size, preprocessing: Preprocessing) -> View:
    """The view that was drawn; no more of the image is resampled than is seen."""
    size = draws.sizes[-1]
    rows, columns = (
        slice(start, min(start + side, limit))
        for start, side, limit in zip(draws.start, target, size, strict=True)
    )
    window = rows, columns
    pixels = _recolored(decoded.rgb, draws, window, preprocessing)
    owner = resample_owner(decoded, draws.sizes, window, preprocessing)
    top, left = draws.offset
    if draws.flip:
        pixels, owner = pixels[:, ::-1], owner[:, ::-1]
        if preprocessing != "torch":  # which pads after it flips
            left = target[1] - left - owner.shape[1]
    return place(pixels, owner, decoded.labels, target, (top, left))


def place(pixels: NDArray[Any], owner: NDArray[Any], labels: Labels, target: Size, offset: Size) -> View:
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
    planes = np.full((3, *target), MEAN, np.float32)
    for channel, plane in enumerate(planes):
        plane[box] = pixels[..., channel]
    return planes.transpose(1, 2, 0)


def _recolored(
    rgb: NDArray[np.uint8], draws: Draws, window: Window, preprocessing: Preprocessing
) -> NDArray[Any]:
    """The window of the scaled image, recoloured with as much of its surroundings as that takes."""
    recoloring, size = draws.recoloring, draws.sizes[-1]
    if recoloring is None:
        return resample_image(rgb, draws.sizes, window, preprocessing)
    outer = whole(size)
    if recoloring.reach is not None:
        reach = recoloring.reach
        rows, columns = (
            slice(max(part.start - reach, 0), min(part.stop + reach, limit))
            for part, limit in zip(window, size, strict=True)
        )
        outer = rows, columns
    pixels = resample_image(rgb, draws.sizes, outer, preprocessing, recoloring.kind)
    if recoloring.kind is np.float32:
        pixels = pixels[..., :3]
    rows, columns = (
        slice(part.start - around.start, part.stop - around.start)
        for part, around in zip(window, outer, strict=True)
    )
    return recoloring.apply(pixels, size)[rows, columns]
