"""Sizes and resampling: pixels of images and labels are moved by the same rule.

The corners of source and target coincide (align_corners), as in the TensorFlow original: pixel i of n_out
lies at i (n_in - 1) / (n_out - 1). Unlike the original, downscaling is antialiased, and an image is resampled
once to its final size, not twice.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import sparse

Size = tuple[int, int]
FloatImage = NDArray[np.float32]
Taps = tuple[NDArray[np.intp], NDArray[np.intp], FloatImage]  # lower, upper, fraction between; one axis


@functools.lru_cache(maxsize=4096)
def fit_size(original: Size, target: Size) -> Size:
    """The size (height, width) of an image resized, with its aspect kept, to fit `target`.

    Rounded twice, as the original does: enlarged to cover and floored, then shrunk to fit and floored. So the
    longer side can come out one pixel short.
    """
    sides = np.array(original, np.float32)
    bounds = np.array(target, np.float64)
    covering = np.float32((bounds / np.array(original, np.float64)).max())
    sides = np.maximum(np.floor(sides * covering), 1)
    fitting = np.minimum(np.float32(1), (bounds / sides.astype(np.float64)).astype(np.float32)).min()
    height, width = np.maximum(np.floor(sides * fitting), 1).astype(int).tolist()
    return height, width


@functools.lru_cache(maxsize=64)
def scale_list(low: float, high: float, step: float) -> NDArray[np.float32]:
    """The scales to choose from: int((high - low) / step + 1) values, evenly spread, both ends included.

    The bounds and the step are rounded to float32 first, as the original's configuration holds them; so 0.5
    to 2.0 with step 0.1 gives 15 values, not 16.
    """
    low, high, step = (float(np.float32(value)) for value in (low, high, step))
    count = int((high - low) / step + 1)
    return np.linspace(low, high, count, dtype=np.float32)


def draw_scale(rng: Generator, low: float, high: float, step: float) -> float:
    """A random scale: from `scale_list`, or any in the range where `step` is 0."""
    return float(rng.uniform(low, high) if step == 0 else rng.choice(scale_list(low, high, step)))


def scaled_size(size: Size, scale: float) -> Size:
    """The size after a random scale, truncated; at least one pixel."""
    height, width = (max(1, int(np.float32(side) * np.float32(scale))) for side in size)
    return height, width


def resize_image(image: NDArray[Any], size: Size) -> FloatImage:
    """Resize [h, w, C] to float32 [H, W, C]: bilinear, antialiased when downscaling."""
    image = image.astype(np.float32)
    if image.shape[:2] == size:
        return image
    (h, w, channels), (H, W) = image.shape, size
    rows = (_weights(h, H) @ image.reshape(h, w * channels)).reshape(H, w, channels)
    columns = np.ascontiguousarray(rows.transpose(1, 0, 2)).reshape(w, H * channels)
    result: FloatImage = (_weights(w, W) @ columns).reshape(W, H, channels).transpose(1, 0, 2)
    return result


class RowResize:
    """`resize_image` for an image that comes in strips of rows; only the rows still needed are kept.

    Args:
        original: (h, w) of the image.
        size: (H, W) of the result.
    """

    def __init__(self, original: Size, size: Size) -> None:
        (h, w), (H, W) = original, size
        self._rows, self._columns = _weights(h, H), _weights(w, W)
        # The first row that each row of the result needs, and the one after the last.
        self._first = np.minimum.reduceat(self._rows.indices, self._rows.indptr[:-1])
        self._end = np.maximum.reduceat(self._rows.indices, self._rows.indptr[:-1]) + 1
        self._kept = np.empty((0, w, 3), np.float32)
        self._start = self._done = 0  # first row that is kept; rows of the result

    def add(self, strip: NDArray[np.uint8]) -> Iterator[FloatImage]:
        """Add the next rows uint8 [R, w, 3]; yields the rows of the result that are complete: [r, W, 3]."""
        self._kept = np.concatenate([self._kept, strip.astype(np.float32)])
        end = self._start + len(self._kept)
        ready = int(np.searchsorted(self._end, end, "right"))
        if ready > self._done:
            weights = self._rows[self._done : ready, self._start : end]
            _, w, channels = self._kept.shape
            rows = (weights @ self._kept.reshape(-1, w * channels)).reshape(-1, w, channels)
            columns = np.ascontiguousarray(rows.transpose(1, 0, 2)).reshape(w, -1)
            yield (self._columns @ columns).reshape(-1, ready - self._done, channels).transpose(1, 0, 2)
            self._done = ready
        if self._done < len(self._first):
            drop = max(0, int(self._first[self._done]) - self._start)
            self._kept = self._kept[drop:].copy()
            self._start += drop


def resize_labels(labels: NDArray[Any], size: Size) -> NDArray[Any]:
    """Resize [h, w] to [H, W] by the nearest pixel."""
    if labels.shape == size:
        return labels
    rows, columns = (nearest(n_in, n_out) for n_in, n_out in zip(labels.shape, size, strict=True))
    return labels[rows[:, None], columns]


def positions(n_in: int, n_out: int) -> FloatImage:
    """The positions of the target's elements in the source: float32 [n_out]."""
    step = np.float32((n_in - 1) / (n_out - 1)) if n_out > 1 else np.float32(0)
    return np.arange(n_out, dtype=np.float32) * step


@functools.lru_cache(maxsize=4096)
def nearest(n_in: int, n_out: int) -> NDArray[np.int64]:
    """The nearest element of the source for each of the target: int64 [n_out]."""
    index: NDArray[np.int64] = np.floor(positions(n_in, n_out) + np.float32(0.5)).astype(np.int64)
    return np.minimum(index, n_in - 1)


@functools.lru_cache(maxsize=1024)
def _weights(n_in: int, n_out: int) -> Any:
    """Sparse [n_out, n_in]: a triangle around each position that reaches to the next (at least 1 pixel)."""
    position = positions(n_in, n_out).astype(np.float64)
    reach = max(1.0, (n_in - 1) / (n_out - 1) if n_out > 1 else n_in / 2)
    taps = int(2 * reach) + 2
    index = np.floor(position - reach).astype(int)[:, None] + np.arange(taps)
    weight = np.maximum(0.0, 1 - np.abs(index - position[:, None]) / reach)
    weight[(index < 0) | (index >= n_in)] = 0
    weight /= weight.sum(axis=1, keepdims=True)
    row = np.broadcast_to(np.arange(n_out)[:, None], index.shape)
    kept = weight > 0
    values = (weight[kept].astype(np.float32), (row[kept], index[kept]))
    return sparse.csr_array(values, shape=(n_out, n_in), dtype=np.float32)
