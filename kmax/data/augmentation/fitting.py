"""Resizing images and labels to fit the network's input, by the rules of either original or antialiased."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kmax.data.augmentation.resampling import (
    Window,
    interpolate,
    interpolate_input,
    pick_labels,
    pick_labels_with_pillow,
    resize_with_pillow,
    whole,
)
from kmax.data.augmentation.view import normalize, words
from kmax.data.geometry import FloatImage, Size, fit_size, resize_image, resize_labels
from kmax.data.image_source import VOID_OWNER, DecodedImage

Pipeline = (
    Literal["tf", "torch"] | None
)  # the input pipeline of deeplab2, of bytedance, or the antialiased one


def fitting_size(original: Size, target: Size, preprocessing: Pipeline, native: bool = False) -> Size:
    """The size at which the whole image fits the input.

    Args:
        original: height and width of the image.
        target: of the network's input.
        preprocessing: the original whose rounding rule applies; None: deeplab2's.
        native: keep the image's size unless it is larger than the input.
    """
    if native and all(side <= limit for side, limit in zip(original, target, strict=True)):
        return original
    if preprocessing != "torch":
        return fit_size(original, target)
    height, width = (max(1, int(side + 0.5)) for side in _boxed(original, target))  # halves go up
    return height, width


def scaled_box_size(original: Size, target: Size, scale: float) -> Size:
    """The size at a random scale in bytedance's pipeline: the box scaled, and the image fitted into it."""
    box = (scale * target[0], scale * target[1])
    height, width = (max(1, round(side)) for side in _boxed(original, box))  # halves go to even
    return height, width


def _boxed(original: Size, box: tuple[float, float]) -> list[float]:
    """The sides of an image fitted into a box, not rounded."""
    ratio = min(limit / side for side, limit in zip(original, box, strict=True))
    return [side * ratio for side in original]


def resample_image(
    rgb: NDArray[np.uint8],
    sizes: list[Size],
    window: Window,
    preprocessing: Pipeline,
    dtype: type[np.uint8] | type[np.float32] = np.float32,
) -> NDArray[Any]:
    """A window of an image resized to each of `sizes` in turn.

    Args:
        rgb: uint8 [h, w, 3 or 4].
        preprocessing: tf: through all sizes, between two pixels; else at once to the last, smoothed where
            it shrinks (torch: in bytes).
        dtype: np.uint8: the result is truncated.

    Returns:
        `dtype` [rows, columns, C] with C >= 3, the first three being red, green and blue.
    """
    if preprocessing == "tf":
        return interpolate(rgb, sizes, window, dtype)
    if preprocessing == "torch":
        return resize_with_pillow(rgb, sizes[-1], window).astype(dtype, copy=False)
    return resize_image(rgb[..., :3], sizes[-1])[window].astype(dtype, copy=False)


def resample_owner(
    decoded: DecodedImage, sizes: list[Size], window: Window, preprocessing: Pipeline
) -> NDArray[Any]:
    """The owners [rows, columns] of the pixels that `resample_image` gives.

    With the pipeline of an original, crowd regions are void, as in both originals.
    """
    if preprocessing is None:
        return resize_labels(decoded.owner, sizes[-1])[window]
    if preprocessing == "tf":
        owner = pick_labels(decoded.owner, sizes, window)
    else:
        owner = pick_labels_with_pillow(decoded.owner, sizes[-1], window)
    if not decoded.labels.iscrowd.any():
        return owner
    return np.where(np.concatenate([[False], decoded.labels.iscrowd])[owner], VOID_OWNER, owner)


def write_fitted(
    rgb: NDArray[np.uint8], out: FloatImage, preprocessing: Pipeline, native: bool = False
) -> Size:
    """Resize an image to fit, as at test time, and write it as network input.

    Args:
        rgb: uint8 [h, w, 3 or 4].
        out: float32 [3, H, W] in -1..1, all of which is written: the image at the top left, and 0.

    Returns:
        The height and width of the part that is image.
    """
    size = fitting_size(rgb.shape[:2], (out.shape[1], out.shape[2]), preprocessing, native)
    height, width = size
    out[:, height:] = 0
    out[:, :height, width:] = 0
    if preprocessing == "tf" and rgb.shape[2] == 4:
        interpolate_input(words(rgb), size, out)
    else:
        normalize(resample_image(rgb, [size], whole(size), preprocessing), out[:, :height, :width])
    return size
