"""Passes over the pixels of a view as machine code; imported where it is called.

Pixels are words of four bytes: red, green, blue, and one without meaning.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kmax.compiled import compiled
from kmax.data.augmentation.view import MEAN, NOT_PASTED, PADDING_OWNER
from kmax.data.geometry import FloatImage


@compiled
def normalize_words(words: NDArray[np.uint32], planes: FloatImage) -> None:
    """Write words [H, W] as network input [3, H, W] in -1..1."""
    for y in range(words.shape[0]):
        row = words[y]
        for channel in range(3):
            plane, shift = planes[channel, y], np.uint32(8 * channel)
            for x in range(len(row)):
                level = np.int32((row[x] >> shift) & np.uint32(255))
                plane[x] = (np.float32(level) - MEAN) / MEAN


@compiled
def blank_padding(owner: NDArray[np.int32], planes: FloatImage) -> None:
    """Write 0 into network input [3, H, W] where the owner [H, W] is padding."""
    for y in range(owner.shape[0]):
        row = owner[y]
        for channel in range(3):
            plane = planes[channel, y]
            for x in range(len(row)):
                plane[x] = np.float32(0) if row[x] == PADDING_OWNER else plane[x]


@compiled
def paste_words(
    words: NDArray[np.uint32],
    owner: NDArray[np.int32],
    pasted: NDArray[np.uint32],
    pasted_owner: NDArray[np.int32],
    new_owner: NDArray[np.int32],
    box: tuple[int, int, int, int],
) -> None:
    """Put pixels over words [H, W] and their owners.

    Args:
        words, owner: [H, W]; changed.
        pasted, pasted_owner: [H, W], of what lies over them.
        new_owner: by an owner of `pasted` plus 1, its owner in the result, or `NOT_PASTED`.
        box: first row, row after the last, first column, column after the last of what is looked at.
    """
    top, bottom, left, right = box
    for y in range(top, bottom):
        row, of_row = words[y, left:right], owner[y, left:right]
        new, of_new = pasted[y, left:right], pasted_owner[y, left:right]
        for x in range(len(row)):
            found = new_owner[np.uintp(of_new[x] + 1)]
            covers = found != NOT_PASTED
            row[x] = new[x] if covers else row[x]
            of_row[x] = found if covers else of_row[x]
