"""The generated `shapes` dataset: things that differ only in shape, on textured regions.

Things (circle, ring, bar, star) have any colour, size, rotation and fill; they cover each other and
are cut by the border. Stuff (stripes, checks, dots, noise) fills regions with curved borders. Some regions
are plain and unlabelled (void), and some images contain a crowd: a group of small shapes of one class that is
one segment.
An image depends only on (seed, split, index).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import Field

from kmax.config import Category, Parameters, PositiveInt, Size
from kmax.data.formats.coco_panoptic import VOID_ID, IdMap, Segment
from kmax.data.shapes import textures
from kmax.data.shapes.textures import Plane
from kmax.errors import InputError

GENERATOR_VERSION = 1
MIN_VISIBLE_PIXELS = 16  # remainders of segments with fewer pixels become void
REFERENCE_SIZE = 128  # sizes below are in pixels of an image whose shorter side is this
VOID_PROBABILITY = 0.25  # of an image with an unlabelled region
CROWD_PROBABILITY = 0.12
CUT_PROBABILITY = 0.3  # of a thing whose centre can be anywhere, even just outside

Rgb = NDArray[np.float32]
Texture = Callable[[Generator, Plane, Plane, float], Plane]
STUFF: dict[str, Texture] = {
    "stripes": textures.stripes,
    "checks": textures.checks,
    "dots": textures.dots,
    "noise": textures.noise,
}
# Stuff tends to a colour, as grass and sky do (hue in turns); things have any.
STUFF_HUE = {"stripes": 0.37, "checks": 0.14, "dots": 0.72, "noise": 0.95}
TEXTURED_THINGS = 0.2  # share of things whose fill is a texture of the stuff
THINGS = ("circle", "ring", "bar", "star")


class Generated(Parameters):
    """The `shapes` dataset, drawn from a seed."""

    lists_categories: ClassVar[bool] = True  # checked by `check_categories`

    kind: Literal["shapes"]
    seed: Annotated[int, Field(ge=0)]
    image_size: Size
    images: dict[str, PositiveInt] = Field(description="split -> number of images")

    def record(self) -> dict[str, Any]:
        """The inputs of the generator, as recorded in the raw manifest."""
        return {**self.model_dump(), "generator_version": GENERATOR_VERSION}


@dataclass(frozen=True)
class Scene:
    """One drawn image: uint8 RGB [H, W, 3], segment ids [H, W], and what the ids are."""

    rgb: NDArray[np.uint8]
    ids: IdMap
    segments: list[Segment]


@dataclass
class _Canvas:
    """A picture while it is painted; `owner` [H, W] indexes `labels` (0: void)."""

    rgb: Rgb
    owner: NDArray[np.int32]
    labels: list[tuple[str, bool]]
    scale: float

    def new_label(self, name: str, crowd: bool = False) -> int:
        self.labels.append((name, crowd))
        return len(self.labels)


def check_categories(categories: list[Category] | None, where: str) -> list[Category]:
    """The dataset's categories, which must be those of the generator.

    Raises:
        InputError: they are not.
    """
    drawn = {**dict.fromkeys(THINGS, True), **dict.fromkeys(STUFF, False)}
    found = {category.name: category.isthing for category in categories or []}
    if categories is None or found != drawn or len(categories) != len(drawn):
        expected = ", ".join(f"{name} ({'thing' if thing else 'stuff'})" for name, thing in drawn.items())
        raise InputError(f"{where}: categories: generated shapes need exactly these: {expected}")
    return categories


def draw_scene(seed: int, split: str, index: int, size: tuple[int, int], categories: list[Category]) -> Scene:
    """Draw image `index` of a split; `size` is (height, width)."""
    rng = np.random.default_rng([seed, zlib.crc32(split.encode()), index])
    height, width = size
    canvas = _Canvas(
        rgb=np.zeros((height, width, 3), np.float32),
        owner=np.zeros((height, width), np.int32),
        labels=[],
        scale=min(size) / REFERENCE_SIZE,
    )
    ground_lightness = _paint_ground(rng, canvas)
    for _ in range(int(rng.integers(2, 8))):
        radius = canvas.scale * min(9.0 + rng.gamma(3.2, 3.8), 34.0)
        center = _place(rng, canvas, radius)
        name = str(rng.choice(THINGS))
        _paint_thing(rng, canvas, name, canvas.new_label(name), center, radius, ground_lightness)
    if rng.random() < CROWD_PROBABILITY:
        _paint_crowd(rng, canvas, ground_lightness)
    grain = rng.normal(0, 0.012, canvas.rgb.shape[:2]).astype(np.float32)
    rgb = (255 * (canvas.rgb + grain[..., None])).clip(0, 255).round().astype(np.uint8)
    ids, segments = _segments(rng, canvas, {category.name: category for category in categories})
    return Scene(rgb, ids, segments)


def _paint_ground(rng: Generator, canvas: _Canvas) -> float:
    """Fill regions with textures (or leave them plain: void); return the mean lightness."""
    height, width = canvas.owner.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    count = int(rng.choice([1, 2, 3, 4], p=[0.12, 0.38, 0.34, 0.16]))
    regions = _regions(rng, x, y, count, canvas.scale)
    names = [str(name) for name in rng.permutation(list(STUFF))[:count]]
    void = int(rng.integers(count)) if count > 1 and rng.random() < VOID_PROBABILITY else -1
    mean_lightness = float(rng.choice([rng.uniform(0.32, 0.48), rng.uniform(0.72, 0.86)]))
    for region, name in enumerate(names):
        inside = regions == region
        lightness = mean_lightness + rng.uniform(-0.06, 0.06)
        region_hue = rng.random() if region == void else STUFF_HUE[name] + rng.uniform(-0.06, 0.06)
        contrast = rng.uniform(0.12, 0.18) * (0.5 if region == void else 1.0)
        chroma = rng.uniform(0.0, 0.03) if region == void else rng.uniform(0.045, 0.09)
        dark = textures.oklch(lightness - contrast / 2, chroma, region_hue)
        light = textures.oklch(lightness + contrast / 2, chroma, region_hue + rng.uniform(-0.06, 0.06))
        texture = textures.plain if region == void else STUFF[name]
        blend = texture(rng, x, y, canvas.scale)[..., None]
        canvas.rgb[inside] = (dark + blend * (light - dark))[inside]
        if region != void:
            canvas.owner[inside] = canvas.new_label(name)
    return mean_lightness


def _regions(rng: Generator, x: Plane, y: Plane, count: int, scale: float) -> NDArray[np.int64]:
    """Divide the image into `count` regions with curved borders: layers, or cells around random sites."""
    height, width = x.shape
    warp = [
        scale * rng.uniform(14, 36) * (textures.smooth_noise(rng, height, width, 32 * scale) - 0.5)
        for _ in range(2)
    ]
    x, y = x + warp[0], y + warp[1]
    if rng.random() < 0.4:
        angle = rng.normal(0, 0.35)
        depth = (math.cos(angle) * (y - height / 2) + math.sin(angle) * (x - width / 2)) / height + 0.5
        borders = (np.arange(1, count) + rng.uniform(-0.25, 0.25, count - 1)) / count
        layers: NDArray[np.int64] = np.digitize(depth, borders)
        return layers
    sites = (rng.permutation(4)[:count, None] // [1, 2] % 2 + rng.uniform(0.1, 0.9, (count, 2))) / 2
    distances = [np.hypot(x - sx * width, y - sy * height) for sx, sy in sites.tolist()]
    nearest: NDArray[np.int64] = np.argmin(distances, axis=0)
    return nearest


def _place(rng: Generator, canvas: _Canvas, radius: float) -> tuple[float, float]:
    """A centre (x, y): mostly inside, some cut; of three tries the one that covers fewest things."""
    height, width = canvas.owner.shape
    ground = sum(name in STUFF for name, _ in canvas.labels)
    inset = -0.3 * radius if rng.random() < CUT_PROBABILITY else min(radius, 0.4 * min(height, width))
    tries = []
    for _ in range(3):
        x, y = rng.uniform(inset, width - inset), rng.uniform(inset, height - inset)
        top, left = max(0, int(y - radius)), max(0, int(x - radius))
        covered = canvas.owner[top : int(y + radius) + 1, left : int(x + radius) + 1] > ground
        tries.append((int(covered.sum()), (x, y)))
    return min(tries)[1]


def _paint_thing(
    rng: Generator,
    canvas: _Canvas,
    name: str,
    label: int,
    center: tuple[float, float],
    radius: float,
    ground_lightness: float,
) -> None:
    """Paint one shape with a fill, a rim, light from the upper left and a soft shadow."""
    height, width = canvas.owner.shape
    shadow = max(1, round(0.09 * radius))
    reach = math.ceil(1.2 * radius) + 3 * shadow + 2
    top, bottom = (min(max(0, int(center[1]) + d), height) for d in (-reach, reach + 1))
    left, right = (min(max(0, int(center[0]) + d), width) for d in (-reach, reach + 1))
    if top >= bottom or left >= right:
        return
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
    x, y = x - center[0], y - center[1]
    distance_to = _silhouette(rng, name, radius)
    distance = distance_to(x, y)

    lightness = rng.uniform(0.42, 0.62) if ground_lightness > 0.6 else rng.uniform(0.66, 0.84)
    hue = rng.random()
    base = textures.oklch(lightness, rng.uniform(0.12, 0.2), hue)
    second = textures.oklch(
        lightness + rng.choice([-0.1, 0.1]), rng.uniform(0.1, 0.18), hue + rng.uniform(-0.1, 0.1)
    )
    fill = STUFF[str(rng.choice(list(STUFF)))] if rng.random() < TEXTURED_THINGS else textures.plain
    blend = fill(rng, x, y, canvas.scale * rng.uniform(0.7, 1.0))[..., None]
    color = base + blend * (second - base)
    light = 1.0 - 0.12 * (x + y)[..., None] / radius
    rim = 1.0 - 0.3 * np.clip((distance[..., None] + 2.2 * canvas.scale) / (1.5 * canvas.scale), 0, 1)
    color = np.clip(color * light * rim, 0, 1)

    window = (slice(top, bottom), slice(left, right))
    shade = 0.38 * np.clip(1 - (distance_to(x - shadow, y - 1.4 * shadow) + shadow) / (3 * shadow), 0, 1) ** 2
    ground = canvas.rgb[window] * (1 - shade[..., None])
    alpha = np.clip(0.5 - distance, 0, 1)[..., None]
    canvas.rgb[window] = ground + alpha * (color - ground)
    canvas.owner[window][distance <= 0] = label


def _silhouette(rng: Generator, name: str, radius: float) -> Callable[[Plane, Plane], Plane]:
    """The signed distance function of a randomly turned shape of about the area of its class mates."""
    angle = rng.uniform(0, 2 * math.pi)
    cosine, sine = math.cos(angle), math.sin(angle)
    if name == "circle":
        return lambda x, y: textures.circle(x, y, 0.92 * radius)
    if name == "ring":
        return lambda x, y: textures.ring(x, y, 0.85 * radius, 0.56 * radius)
    if name == "bar":
        corners = np.array([[-1.3, -0.36], [1.3, -0.36], [1.3, 0.36], [-1.3, 0.36]]) * radius
    else:
        corners = textures.star_corners(5, 1.2 * radius, rng.uniform(0.42, 0.5))
    corners = corners @ np.array([[cosine, sine], [-sine, cosine]])
    return lambda x, y: textures.polygon(corners, x, y)


def _paint_crowd(rng: Generator, canvas: _Canvas, ground_lightness: float) -> None:
    """Paint a group of small shapes of one class that is one segment."""
    height, width = canvas.owner.shape
    name = str(rng.choice(THINGS))
    label = canvas.new_label(name, crowd=True)
    middle = rng.uniform(0.15, 0.85, 2) * (width, height)
    for _ in range(int(rng.integers(9, 17))):
        x, y = (middle + canvas.scale * rng.normal(0, 10, 2)).tolist()
        radius = canvas.scale * rng.uniform(4.0, 5.5)
        _paint_thing(rng, canvas, name, label, (x, y), radius, ground_lightness)


def _segments(
    rng: Generator, canvas: _Canvas, categories: dict[str, Category]
) -> tuple[IdMap, list[Segment]]:
    """Give ids near the category's colour, drop slivers, and measure areas and boxes."""
    from scipy import ndimage  # here: dataset files are read without its 0.3 seconds of import

    owner = canvas.owner
    areas = np.bincount(owner.ravel(), minlength=len(canvas.labels) + 1)
    boxes = ndimage.find_objects(owner, max_label=len(canvas.labels))
    id_of = np.zeros(len(canvas.labels) + 1, np.int32)
    segments: list[Segment] = []
    for label, (name, crowd) in enumerate(canvas.labels, start=1):
        if areas[label] < MIN_VISIBLE_PIXELS:
            continue
        category = categories[name]
        id_of[label] = _free_id(rng, category, set(id_of.tolist()))
        rows, columns = boxes[label - 1]
        box = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
        segments.append(Segment(int(id_of[label]), category.id, int(areas[label]), box, crowd))
    return id_of[owner], segments


def _free_id(rng: Generator, category: Category, taken: set[int]) -> int:
    """A segment id that shows as (nearly) the category's colour in the PNG and is not taken yet."""
    color = np.array(category.color)
    while True:
        red, green, blue = (int(v) for v in color.clip(0, 255))
        number = red + 256 * green + 65536 * blue
        if number != VOID_ID and number not in taken:
            return number
        color = category.color + rng.integers(-40, 41, 3)
