"""Textures and silhouettes of the generated `shapes` dataset: functions of pixel coordinates.

Coordinates are in pixels; x grows to the right, y down. A texture gives a blend in [0, 1] of two colours, a
silhouette a signed distance in pixels, negative inside.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

Plane = NDArray[np.float32]


def oklch(lightness: float, chroma: float, hue: float) -> NDArray[np.float32]:
    """sRGB in [0, 1] of a colour in OKLCh (perceptual lightness 0..1, chroma, hue in turns), clipped."""
    a, b = chroma * math.cos(2 * math.pi * hue), chroma * math.sin(2 * math.pi * hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.array(
        [
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ]
    ).clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).astype(
        np.float32
    )


def smooth_noise(rng: Generator, height: int, width: int, cell: float) -> Plane:
    """Smooth random field in [0, 1] whose features are about `cell` pixels wide."""
    rows, columns = math.ceil(height / cell) + 3, math.ceil(width / cell) + 3
    grid = Image.fromarray(rng.random((rows, columns), dtype=np.float32))
    size = (math.ceil(columns * cell), math.ceil(rows * cell))
    field: Plane = np.asarray(grid.resize(size, Image.Resampling.BICUBIC))
    top, left = (int(rng.integers(0, max(1, n))) for n in (size[1] - height, size[0] - width))
    cropped: Plane = np.clip(field[top : top + height, left : left + width], 0, 1)
    return cropped


def _rotated(x: Plane, y: Plane, angle: float) -> tuple[Plane, Plane]:
    cosine, sine = math.cos(angle), math.sin(angle)
    return cosine * x + sine * y, cosine * y - sine * x


def _edge(distance: Plane) -> Plane:
    """1 where the signed distance is negative, 0 where it is positive, one pixel of blend between."""
    blend: Plane = np.clip(0.5 - distance, 0, 1)
    return blend


def stripes(rng: Generator, x: Plane, y: Plane, scale: float) -> Plane:
    """Parallel bands of random direction, width and phase, some of them wavy."""
    u, v = _rotated(x, y, rng.uniform(0, math.pi))
    if rng.random() < 0.4:
        u = u + scale * rng.uniform(1.0, 2.5) * np.sin(v / (scale * rng.uniform(5, 9)))
    period = scale * rng.uniform(6, 12)
    position = np.abs((u / period + rng.random()) % 1.0 - 0.5) * period
    return _edge(position - period * rng.uniform(0.2, 0.3))


def checks(rng: Generator, x: Plane, y: Plane, scale: float) -> Plane:
    """A chess board of random direction and cell size."""
    u, v = _rotated(x, y, rng.uniform(0, math.pi / 2))
    cell = scale * rng.uniform(5, 9)
    u, v = (np.abs((w / cell + rng.random()) % 2.0 - 1.0) * cell - cell / 2 for w in (u, v))
    # u and v are signed distances to the grid lines: equal signs are one colour, different ones the other.
    return _edge(np.sign(u * v) * np.minimum(np.abs(u), np.abs(v)))


def dots(rng: Generator, x: Plane, y: Plane, scale: float) -> Plane:
    """Discs on a rotated grid, every other row moved by half a step."""
    u, v = _rotated(x, y, rng.uniform(0, math.pi / 2))
    pitch = scale * rng.uniform(7, 11)
    row = v / pitch + rng.random()
    shift = 0.5 * (np.floor(row) % 2)
    du = ((u / pitch + shift + rng.random()) % 1.0 - 0.5) * pitch
    dv = (row % 1.0 - 0.5) * pitch
    return _edge(np.hypot(du, dv) - pitch * rng.uniform(0.24, 0.32))


def noise(rng: Generator, x: Plane, y: Plane, scale: float) -> Plane:
    """Blurred speckles of two sizes."""
    height, width = x.shape
    coarse = smooth_noise(rng, height, width, scale * rng.uniform(4, 7))
    fine = smooth_noise(rng, height, width, scale * rng.uniform(1.6, 2.4))
    return np.clip(0.5 + 1.6 * (0.55 * coarse + 0.45 * fine - 0.5), 0, 1)


def plain(rng: Generator, x: Plane, y: Plane, scale: float) -> Plane:
    """A slow change from one colour to the other: ground that has no label."""
    u, _ = _rotated(x, y, rng.uniform(0, 2 * math.pi))
    low, high = float(u.min()), float(u.max())
    return (u - low) / max(high - low, 1e-6)


def circle(x: Plane, y: Plane, radius: float) -> Plane:
    """Signed distance to a circle."""
    return np.hypot(x, y) - np.float32(radius)


def ring(x: Plane, y: Plane, radius: float, width: float) -> Plane:
    """Signed distance to a ring around the origin; `radius` is that of the middle of its band."""
    return np.abs(np.hypot(x, y) - np.float32(radius)) - np.float32(width / 2)


def polygon(corners: NDArray[np.float64], x: Plane, y: Plane) -> Plane:
    """Signed distance to a simple polygon [corners, 2] of (x, y)."""
    squared = np.full_like(x, np.inf)
    inside = np.zeros(x.shape, bool)
    points = corners.tolist()  # Python numbers keep float32 arrays float32
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        ex, ey = x1 - x0, y1 - y0
        px, py = x - x0, y - y0
        along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
        np.minimum(squared, (px - along * ex) ** 2 + (py - along * ey) ** 2, out=squared)
        # An edge that a ray to the right crosses changes between inside and outside.
        crossed = (y0 <= y) != (y1 <= y)
        if ey != 0:
            inside ^= crossed & (px < py * ex / ey)
    distance: Plane = np.where(inside, -np.sqrt(squared), np.sqrt(squared))
    return distance


def regular_corners(count: int, radius: float) -> NDArray[np.float64]:
    """Corners of a regular polygon around the origin, the first one on top."""
    angles = 2 * math.pi * np.arange(count) / count - math.pi / 2
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def star_corners(points: int, radius: float, inner: float) -> NDArray[np.float64]:
    """Corners of a star; `inner` is the inner radius as a fraction of the outer."""
    corners = regular_corners(2 * points, radius)
    corners[1::2] *= inner
    return corners
