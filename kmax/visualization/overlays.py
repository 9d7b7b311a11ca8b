"""Panoptic overlays, and the cluster assignments of the k-means layers as pictures.

Small images are enlarged by a whole factor, large ones shrunk, so that all pictures are legible on a page.
"""

from __future__ import annotations

import colorsys
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from scipy import ndimage

from kmax.config import Category
from kmax.config.category import palette_color
from kmax.data.geometry import resize_labels
from kmax.display import category_labels
from kmax.files import atomic_path

Rgb = NDArray[np.uint8]
Ids = NDArray[np.int32]

SMALL, LARGE = 512, 1024  # longer side of a picture, in pixels
LABEL_SHARE = 0.01  # segments with a smaller share of the picture are not named
NO_CHARACTER = "\U0010ffff"  # drawn as the box of a missing glyph
OVERLAY, CLUSTERS = 0.55, 0.7  # opacity of the colours


def picture_size(height: int, width: int) -> tuple[int, int]:
    """The size to show an image at: enlarged by a whole factor towards 512, or shrunk to 1024."""
    longer = max(height, width)
    if longer > LARGE:
        return max(1, round(height * LARGE / longer)), max(1, round(width * LARGE / longer))
    factor = max(1, SMALL // longer)
    return height * factor, width * factor


def show_image(image: Rgb) -> Rgb:
    """The image [H, W, 3] at picture size."""
    height, width = picture_size(*image.shape[:2])
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def overlay(image: Rgb, ids: Ids, classes: dict[int, int], categories: Sequence[Category]) -> Rgb:
    """The image with its segments in colour, outlined and named; void pixels are darkened.

    Args:
        image: uint8 [H, W, 3].
        ids: segment id of each pixel [H, W], 0 = void.
        classes: segment id -> index into `categories`.
        categories: the colour of a class varies between its instances.
    """
    picture = show_image(image).astype(np.float32)
    ids = _show_labels(ids, (picture.shape[0], picture.shape[1]))
    numbers = sorted(classes)
    index = np.searchsorted(numbers, ids) if numbers else np.zeros_like(ids)
    index = np.where(np.isin(ids, numbers), index, len(numbers))
    colors = np.array([*_segment_colors(numbers, classes, categories), (0, 0, 0)], np.float32)
    picture = picture * (1 - OVERLAY) + colors[index] * OVERLAY
    edges = _edges(index)
    picture[edges] = 255
    labelled = Image.fromarray(picture.round().astype(np.uint8))
    names = category_labels([(category.id, category.name) for category in categories], _has_glyphs)
    _write_names(labelled, index, edges, [names[classes[number]] for number in numbers])
    return np.asarray(labelled)


def cluster_map(
    image: Rgb, assignment: NDArray[np.integer], input_size: tuple[int, int], content_size: tuple[int, int]
) -> Rgb:
    """The image in grey, each pixel tinted by the cluster that it is assigned to.

    A cluster has one colour in all layers.

    Args:
        image: uint8 [H, W, 3].
        assignment: cluster of each pixel of the layer [h_i, w_i], over the padded network input.
        input_size, content_size: (height, width) of the network input, and of the image at its top left.
    """
    grey: NDArray[np.float32] = show_image(image).astype(np.float32).mean(-1, keepdims=True)
    clusters = resize_labels(assignment.astype(np.int32), input_size)[: content_size[0], : content_size[1]]
    clusters = _show_labels(clusters, (grey.shape[0], grey.shape[1]))
    colors = np.array([palette_color(number) for number in range(int(clusters.max()) + 1)], np.float32)
    tinted: NDArray[np.float32] = grey * (1 - CLUSTERS) + colors[clusters] * CLUSTERS
    return tinted.round().astype(np.uint8)


def save_picture(path: Path, picture: Rgb, software: str | None = None) -> None:
    """Write a PNG atomically; `software` is kept in its text chunk of that name."""
    chunks = PngInfo()
    if software is not None:
        chunks.add_text("Software", software)
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG", pnginfo=chunks)


def _show_labels(labels: Ids, size: tuple[int, int]) -> Ids:
    """Labels at picture size, by the nearest pixel."""
    resized = Image.fromarray(labels).resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.asarray(resized)


def _segment_colors(
    numbers: list[int], classes: dict[int, int], categories: Sequence[Category]
) -> list[tuple[float, float, float]]:
    """A colour per segment: its category's, with another hue and brightness for each further instance."""
    seen: dict[int, int] = {}
    colors = []
    for number in numbers:
        category = categories[classes[number]]
        instance = seen.get(classes[number], 0)
        seen[classes[number]] = instance + 1
        hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in category.color))
        hue += 0.035 * (instance % 5 - 2) if instance else 0.0
        value = max(0.35, 1.0 - (1.0 - value + 0.18 * instance) % 0.65) if instance else value
        red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
        colors.append((255 * red, 255 * green, 255 * blue))
    return colors


def _edges(index: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Pixels whose right or lower neighbour belongs to another segment."""
    edges = np.zeros(index.shape, np.bool_)
    edges[:, :-1] |= index[:, :-1] != index[:, 1:]
    edges[:-1] |= index[:-1] != index[1:]
    return edges


def _write_names(
    picture: Image.Image, index: NDArray[np.integer], edges: NDArray[np.bool_], names: list[str]
) -> None:
    """Write the name of each large segment at its point farthest from any outline."""
    inside = ~edges
    inside[[0, -1]] = False
    inside[:, [0, -1]] = False
    distance = ndimage.distance_transform_edt(inside)
    areas = np.bincount(index.ravel(), minlength=len(names) + 1)[:-1]
    shown = np.flatnonzero(areas >= LABEL_SHARE * index.size)
    if not len(shown):
        return
    draw, font = ImageDraw.Draw(picture), _font()
    spots = ndimage.maximum_position(distance, index, shown)
    for segment, (row, column) in zip(shown.tolist(), spots, strict=True):
        half_width = draw.textlength(names[segment], font) / 2 + 2
        column = min(max(column, half_width), picture.width - half_width)
        row = min(max(row, 8), picture.height - 8)
        draw.text(
            (column, row), names[segment], "white", font, anchor="mm", stroke_width=2, stroke_fill="black"
        )


@functools.cache
def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(13)


def _has_glyphs(text: str) -> bool:
    """Whether the font has all characters of a text; the others are drawn as boxes."""
    return all(_has_glyph(character) for character in text)


@functools.cache
def _has_glyph(character: str) -> bool:
    return character.isascii() or bytes(_font().getmask(character)) != bytes(_font().getmask(NO_CHARACTER))
