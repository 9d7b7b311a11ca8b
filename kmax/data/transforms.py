"""From a decoded image to network input and targets.

Order of the steps, as in the TensorFlow original: resize to fit, random scale, colours, pad, crop, flip; then
panoptic copy-paste of a second image that went through the same steps. All random numbers of a sample come
from one generator, so a sample depends on nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from kmax.config import Augmentation
from kmax.data.batch import NO_SEGMENT, VOID_CLASS
from kmax.data.geometry import (
    FloatImage,
    Size,
    draw_scale,
    fit_size,
    resize_image,
    resize_labels,
    scaled_size,
)
from kmax.data.source import Decoded, Labels

MEAN = np.float32(127.5)
PADDING_OWNER = -1
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class View:
    """An image at input size.

    Attributes:
        pixels: float32 [H, W, 3] in 0..255; padding is 127.5.
        owner: int32 [H, W]: -1 padding, 0 void, else 1 + the index in `labels`.
        content_size: height and width of the part that is image.
    """

    pixels: FloatImage
    owner: NDArray[np.int32]
    labels: Labels
    content_size: Size


@dataclass(frozen=True)
class Targets:
    """Targets of one image; see `kmax.data.batch.Batch`."""

    segments: NDArray[np.int64]
    semantic: NDArray[np.int64]
    classes: NDArray[np.int64]


def normalize(pixels: FloatImage) -> FloatImage:
    """Pixels [H, W, 3] of 0..255 as network input [3, H, W] of -1..1."""
    return np.ascontiguousarray(((pixels - MEAN) / MEAN).transpose(2, 0, 1))


def plain_view(decoded: Decoded, image_size: Size) -> View:
    """Resize to fit and pad at the bottom and right, as at test time."""
    size = fit_size(decoded.rgb.shape[:2], image_size)
    pixels, owner = resize_image(decoded.rgb, size), resize_labels(decoded.owner, size)
    return _padded_view(pixels, owner, decoded.labels, image_size, (0, 0))


def augmented_view(
    rng: Generator, decoded: Decoded, image_size: Size, augmentation: Augmentation, scale_factor: float = 1.0
) -> View:
    """Resize to fit, scale, jitter the colours, pad, crop and flip at random.

    Args:
        scale_factor: multiplies the range of scales; less than 1 for an image to be pasted.
    """
    low, high = (scale_factor * bound for bound in augmentation.scale)
    scale = draw_scale(rng, low, high, augmentation.scale_step)
    size = scaled_size(fit_size(decoded.rgb.shape[:2], image_size), scale)
    pixels, owner = resize_image(decoded.rgb, size), resize_labels(decoded.owner, size)
    if augmentation.color_jitter > 0:
        pixels = jitter_colors(rng, pixels, augmentation.color_jitter)
    # The largest offset of the padding is not drawn, as in the original.
    offset = tuple(int(rng.integers(0, max(c - s, 1))) for c, s in zip(image_size, size, strict=True))
    start = tuple(int(rng.integers(0, max(s - c, 0) + 1)) for c, s in zip(image_size, size, strict=True))
    window = tuple(slice(s, s + c) for s, c in zip(start, image_size, strict=True))
    view = _padded_view(pixels[window], owner[window], decoded.labels, image_size, (offset[0], offset[1]))
    if rng.random() < augmentation.flip:
        return View(view.pixels[:, ::-1], view.owner[:, ::-1], view.labels, view.content_size)
    return view


def jitter_colors(rng: Generator, pixels: FloatImage, strength: float) -> FloatImage:
    """Change brightness, contrast and saturation, each by a factor within 1 - strength .. 1 + strength."""
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3).astype(np.float32)
    pixels = pixels * brightness
    grey = (pixels @ LUMA)[..., None]
    pixels = grey + saturation * (pixels - grey)
    mean = grey.mean(dtype=np.float64).astype(np.float32)
    jittered: FloatImage = np.clip(mean + contrast * (pixels - mean), 0, 255)
    return jittered


def copy_paste(rng: Generator, canvas: View, pasted: View) -> View:
    """Panoptic copy-paste: all things and a random part of the stuff of `pasted` over `canvas`.

    A random number (any from none to all) of the regions of `pasted`, void and padding counted too, is
    chosen; stuff is pasted if chosen, things always, void and padding never.
    """
    present = np.flatnonzero(np.bincount(pasted.owner.ravel() + 1, minlength=len(pasted.labels) + 2))
    chosen = rng.permutation(present)[: int(rng.integers(0, len(present) + 1))]
    keep = np.zeros(len(pasted.labels) + 2, bool)  # by owner + 1: padding, void, segments
    keep[chosen] = True
    return paste(canvas, pasted, keep[2:] | pasted.labels.isthing)


def paste(canvas: View, pasted: View, keep: NDArray[np.bool_]) -> View:
    """Put the segments of `pasted` with `keep` [M] over `canvas`.

    Stuff of a class that both images have becomes one segment; what stays visible of a covered segment stays.
    """
    of_canvas, of_pasted = canvas.labels, pasted.labels
    stuff = np.flatnonzero(~of_canvas.isthing & ~of_canvas.iscrowd).tolist()
    owner_of_stuff = {int(of_canvas.classes[i]): i + 1 for i in stuff}
    new_owner = np.arange(len(of_pasted) + 2) - 1 + len(of_canvas)  # by owner + 1
    for i in np.flatnonzero(~of_pasted.isthing & ~of_pasted.iscrowd).tolist():
        new_owner[i + 2] = owner_of_stuff.get(int(of_pasted.classes[i]), new_owner[i + 2])
    mask = np.concatenate([[False, False], keep])[pasted.owner + 1]
    return View(
        pixels=np.where(mask[..., None], pasted.pixels, canvas.pixels),
        owner=np.where(mask, new_owner[pasted.owner + 1], canvas.owner).astype(np.int32),
        labels=Labels(
            np.concatenate([of_canvas.classes, of_pasted.classes]),
            np.concatenate([of_canvas.isthing, of_pasted.isthing]),
            np.concatenate([of_canvas.iscrowd, of_pasted.iscrowd]),
        ),
        content_size=canvas.content_size,
    )


def targets_of(view: View) -> Targets:
    """Segments that still have a pixel, numbered from 0, without crowd; and the semantic map with crowd."""
    labels = view.labels
    shifted = view.owner + 1  # 0 padding, 1 void, 2.. segments
    visible = np.bincount(shifted.ravel(), minlength=len(labels) + 2)[2:] > 0
    kept = np.flatnonzero(visible & ~labels.iscrowd)
    segment_of = np.full(len(labels) + 2, NO_SEGMENT, np.int64)
    segment_of[kept + 2] = np.arange(len(kept))
    class_of = np.full(len(labels) + 2, VOID_CLASS, np.int64)
    class_of[2:] = labels.classes
    return Targets(segment_of[shifted], class_of[shifted], labels.classes[kept])


def _padded_view(
    pixels: FloatImage, owner: NDArray[Any], labels: Labels, image_size: Size, offset: Size
) -> View:
    """Place a crop that fits on a canvas of padding."""
    (height, width), (top, left) = owner.shape, offset
    canvas = np.full((*image_size, 3), MEAN, np.float32)
    canvas[top : top + height, left : left + width] = pixels
    owners = np.full(image_size, PADDING_OWNER, np.int32)
    owners[top : top + height, left : left + width] = owner
    return View(canvas, owners, labels, (height, width))
