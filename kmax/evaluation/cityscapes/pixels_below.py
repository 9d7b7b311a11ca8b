"""Pixels that masks share with each id of a ground truth map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kmax.data.formats.png import GREY, PngFile, decode_mask, filtered_lines


class PixelsBelow:
    """A ground truth map of which masks are counted.

    Attributes:
        ids: int64 [N], those that occur, ascending.
        areas: int64 [N], pixels of each.
    """

    def __init__(self, truth: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
        """Of a map [H, W]."""
        self._truth = truth
        self._counts = np.zeros(int(truth.max()) + 1, np.int64)
        self._count(truth.reshape(-1))
        self.ids = self._counts.nonzero()[0]
        self.areas = self._taken()

    def count(self, mask: PngFile) -> NDArray[np.int64]:
        """Pixels of each id [N] below what is not black in a mask.

        Raises:
            InputError: the mask is damaged.
            ValueError: it has another size than the map.
        """
        if (mask.height, mask.width) != self._truth.shape:
            raise ValueError(f"a mask of {mask.size} pixels on a map of shape {self._truth.shape}")
        lines = filtered_lines(mask) if mask.color_type == GREY and mask.bit_depth == 8 else None
        if lines is None:
            self._count(self._truth[decode_mask(mask)])
        else:
            from kmax.evaluation.cityscapes.mask_loops import count_below_lines

            data = lines.reshape(-1)
            count_below_lines(data, _words(data), self._truth, self._counts)
        return self._taken()

    def _count(self, values: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
        from kmax.evaluation.cityscapes.mask_loops import (
            count_values,  # here, since numba takes half a second to import
        )

        if len(values):
            count_values(values, _words(values), self._counts)

    def _taken(self) -> NDArray[np.int64]:
        """The counts of all ids, which start again."""
        taken = self._counts[self.ids]
        self._counts[self.ids] = 0
        return taken


def _words(values: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint64]:
    """The bytes of an array as words, as far as they fill them."""
    return values[: values.nbytes // 8 * 8 // values.itemsize].view(np.uint64)
