"""Panoptic copy-paste: things and a random part of the stuff of one view over another.

Every training sample, as in both originals: there is no probability and no blending.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from kmax.data.augmentation.fitting import Preprocessing
from kmax.data.augmentation.view import View
from kmax.data.source import Labels


def copy_paste(rng: Generator, canvas: View, pasted: View, preprocessing: Preprocessing = None) -> View:
    """Put all things and a random part of the stuff of `pasted` over `canvas`.

    A random number (any from none to all) of the regions of `pasted` is chosen; stuff is pasted if chosen,
    things always, void and padding never. The regions are those in the view, void and padding counted too;
    with bytedance's pipeline all segments of the image but crowd.
    """
    if preprocessing == "torch":
        regions = np.flatnonzero(~pasted.labels.iscrowd) + 2
    else:
        counts = np.bincount(pasted.owner.ravel() + 1, minlength=len(pasted.labels) + 2)
        regions = np.flatnonzero(counts)
    chosen = rng.permutation(regions)[: int(rng.integers(0, len(regions) + 1))]
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
    new_owner = (np.arange(len(of_pasted) + 2) - 1 + len(of_canvas)).astype(np.int32)  # by owner + 1
    for i in np.flatnonzero(~of_pasted.isthing & ~of_pasted.iscrowd).tolist():
        new_owner[i + 2] = owner_of_stuff.get(int(of_pasted.classes[i]), new_owner[i + 2])
    mask = np.concatenate([[False, False], keep]).take(pasted.owner + 1)
    box = _box(mask)
    mask = mask[box]
    channels = canvas.pixels.transpose(2, 0, 1).copy()
    for channel, new in zip(channels, pasted.pixels.transpose(2, 0, 1), strict=True):
        np.copyto(channel[box], new[box], where=mask)
    owner = canvas.owner.copy()
    np.copyto(owner[box], new_owner.take(pasted.owner[box] + 1), where=mask)
    labels = Labels(
        np.concatenate([of_canvas.classes, of_pasted.classes]),
        np.concatenate([of_canvas.isthing, of_pasted.isthing]),
        np.concatenate([of_canvas.iscrowd, of_pasted.iscrowd]),
    )
    return View(channels.transpose(1, 2, 0), owner, labels, canvas.content_size)


def _box(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The rows and columns that hold all of the mask."""
    if not mask.any():
        return slice(0), slice(0)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
