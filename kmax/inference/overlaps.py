"""Masks pasted on an empty canvas, one over the other, without touching the pixels once for each mask.

A mask is the pixels where a softmax exceeds a threshold. Above a threshold of a third, a pixel belongs to two
masks at most, so a map of pairs is sufficient: the number of pixels that each pair of masks shares decides
which masks stay, and a table over pairs gives the canvas. Below that threshold, masks are pasted one by one.

Legend of shapes: M masks, H W pixels of the map, R rows of a band.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TWO_AT_MOST = 0.34  # a third, and a margin for rounding


class Overlaps(Protocol):
    """The pixels of each mask and the overlaps of masks, collected band by band."""

    def add(self, weights: Tensor, total: Tensor) -> None:
        """Add rows [R, M, W] and [R, W]; the softmax is weights / total. `weights` is overwritten."""

    def areas(self) -> NDArray[np.int64]:
        """Pixels of each mask: [M]."""

    def shares(self) -> NDArray[np.float64]:
        """Sum of the softmax of each mask over its pixels: [M]."""

    def paste(
        self, order: NDArray[np.int64], overlap_threshold: float
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Paste the masks in order; drop a mask whose share of free pixels is too small.

        Args:
            order: [M], indices of the masks from the most to the least confident.
            overlap_threshold: a mask stays if its free pixels are more than this share of its pixels.

        Returns:
            int32 [X], a table, and int32 [H, W], indices into it. The table's entries are 1 + position in
            `order` of the mask that has the pixels, 0 where none has.
        """


def collect_overlaps(masks: int, pixel_threshold: float) -> Overlaps:
    """An empty collection for that number of masks, of the cheapest kind that the threshold allows."""
    kind = PairOverlaps if pixel_threshold >= TWO_AT_MOST else AllOverlaps
    return kind(masks, pixel_threshold)


class PairOverlaps:
    """A pixel belongs to two masks at most."""

    def __init__(self, masks: int, pixel_threshold: float) -> None:
        self.count = masks
        self.pixel_threshold = pixel_threshold
        self.bands: list[Tensor] = []
        self._pairs: NDArray[np.int32] | None = None
        self._shares = np.zeros(masks + 1)

    def add(self, weights: Tensor, total: Tensor) -> None:
        """See `Overlaps`."""
        threshold = self.pixel_threshold * total
        best, first = weights.max(1)
        owner = torch.where(best > threshold, first + 1, 0)  # 1 + index of the mask, or 0
        self._add_shares(owner, best / total)
        weights.scatter_(1, first[:, None], 0.0)
        second_best, second = weights.max(1)
        also = torch.where(second_best > threshold, second + 1, 0)
        self._add_shares(also, second_best / total)
        also = torch.where(also > 0, also, owner)
        low, high = torch.minimum(owner, also), torch.maximum(owner, also)
        self._keep((low * (self.count + 1) + high).int())

    def _keep(self, pairs: Tensor) -> None:
        self.bands.append(pairs)

    def _add_shares(self, owner: Tensor, share: Tensor) -> None:
        numbers, values = owner.flatten(), share.flatten().double()
        sums = torch.bincount(numbers, values, minlength=self.count + 1)
        self._shares += sums.cpu().numpy()

    def shares(self) -> NDArray[np.float64]:
        """See `Overlaps`."""
        return self._shares[1:]

    def areas(self) -> NDArray[np.int64]:
        """See `Overlaps`."""
        shared = self._shared()
        areas: NDArray[np.int64] = shared.sum(0) + shared.sum(1) - shared.diagonal()
        return areas[1:]

    def paste(
        self, order: NDArray[np.int64], overlap_threshold: float
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """See `Overlaps`."""
        return self.decide(order, overlap_threshold), self._map()

    def decide(self, order: NDArray[np.int64], overlap_threshold: float) -> NDArray[np.int32]:
        """The table of `paste`, whose indices are the pairs of the pixels."""
        position = np.zeros(self.count + 1, dtype=np.int32)  # 1 + place in the order
        position[order + 1] = np.arange(1, self.count + 1)
        areas, shared = self.areas()[order], self._shared()[1:, 1:][np.ix_(order, order)]
        shared = shared + shared.T
        stays = np.zeros(self.count + 1, dtype=bool)
        least_free = areas.astype(np.float32) * np.float32(overlap_threshold)
        for index in range(self.count):
            free = areas[index] - shared[index, :index][stays[1 : index + 1]].sum()
            stays[index + 1] = free > least_free[index]
        ranked = np.where(stays, np.arange(self.count + 1), self.count + 1)[position]  # of each mask
        ranked[0] = self.count + 1
        table = np.minimum(ranked[:, None], ranked[None])
        return np.where(table > self.count, 0, table).astype(np.int32).ravel()

    def _map(self) -> NDArray[np.int32]:
        """The pair of each pixel [H, W]: lower times (M + 1) plus higher mask number."""
        if self._pairs is None:
            self._pairs = torch.cat(self.bands).cpu().numpy()
        return self._pairs

    def _shared(self) -> NDArray[np.int64]:
        """How many pixels have each pair: [M+1, M+1]; a pixel of one mask is a pair with itself."""
        side = self.count + 1
        return np.bincount(self._map().ravel(), minlength=side * side).reshape(side, side)


class PackedOverlaps(PairOverlaps):
    """As `PairOverlaps`, for large images: the map is kept compressed, and unpacked band by band."""

    def __init__(self, masks: int, pixel_threshold: float) -> None:
        super().__init__(masks, pixel_threshold)
        side = masks + 1
        self._counts = np.zeros(side * side, np.int64)
        self._packed: list[tuple[bytes, tuple[int, ...]]] = []

    def _keep(self, pairs: Tensor) -> None:
        band = pairs.cpu().numpy()
        self._counts += np.bincount(band.ravel(), minlength=len(self._counts))
        self._packed.append((zlib.compress(band.tobytes(), 1), band.shape))

    def _shared(self) -> NDArray[np.int64]:
        side = self.count + 1
        return self._counts.reshape(side, side)

    def counts(self) -> NDArray[np.int64]:
        """How many pixels have each pair: [(M+1) (M+1)]."""
        return self._counts

    def pairs(self) -> Iterator[NDArray[np.int32]]:
        """The pair of each pixel, in bands of rows [R, W]."""
        for content, shape in self._packed:
            yield np.frombuffer(zlib.decompress(content), np.int32).reshape(shape)


class AllOverlaps:
    """A pixel belongs to any number of masks."""

    def __init__(self, masks: int, pixel_threshold: float) -> None:
        self.pixel_threshold = pixel_threshold
        self.bands: list[Tensor] = []
        self._masks: Tensor | None = None
        self._shares = np.zeros(masks)

    def add(self, weights: Tensor, total: Tensor) -> None:
        """See `Overlaps`."""
        masks = weights > self.pixel_threshold * total[:, None]
        self.bands.append(masks)
        self._shares += (weights * masks / total[:, None]).sum((0, 2)).double().cpu().numpy()

    def shares(self) -> NDArray[np.float64]:
        """See `Overlaps`."""
        return self._shares

    def areas(self) -> NDArray[np.int64]:
        """See `Overlaps`."""
        areas: NDArray[np.int64] = self._all().flatten(1).sum(1).cpu().numpy()
        return areas

    def paste(
        self, order: NDArray[np.int64], overlap_threshold: float
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """See `Overlaps`."""
        masks = self._all()
        least_free = self.areas()[order].astype(np.float32) * np.float32(overlap_threshold)
        canvas = torch.zeros(masks.shape[1:], dtype=torch.int32, device=masks.device)
        free = torch.ones_like(canvas, dtype=torch.bool)
        for place, index in enumerate(order.tolist()):
            visible = masks[index] & free
            if float(visible.sum()) > least_free[place]:
                canvas.masked_fill_(visible, place + 1)
                free &= ~masks[index]
        return np.arange(len(order) + 1, dtype=np.int32), canvas.cpu().numpy()

    def _all(self) -> Tensor:
        """bool [M, H, W]."""
        if self._masks is None:
            self._masks = torch.cat([band.transpose(0, 1) for band in self.bands], dim=1)
            self.bands.clear()
        return self._masks
