"""Panoptic copy-paste: things and a random part of the stuff of one view over another.

Applied to every training sample, as in both originals: without a probability, and without blending.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from kmax.data.augmentation.fitting import Pipeline
from kmax.data.augmentation.view import View, pixel_counts, words
from kmax.data.image_source import NOT_PASTED, SegmentLabels


def copy_paste(rng: Generator, canvas: View, pasted: View, preprocessing: Pipeline = None) -> View:
    """Put all things and a random part of the stuff of `pasted` over `canvas`.

    A random number (any from none to all) of the regions of `pasted` is chosen; stuff is pasted if chosen,
    things always, void and padding never. The regions are those in the view, including void and padding;
    with bytedance's pipeline, all segments of the image except crowd.
    """
    if preprocessing == "torch":
        regions = np.flatnonzero(~pasted.labels.iscrowd) + 2
    else:
        regions = np.flatnonzero(pixel_counts(pasted))
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
    new_owner[:2] = NOT_PASTED
    new_owner[2:][~keep] = NOT_PASTED
    image, owner = _merged(canvas, pasted, new_owner)
    labels = SegmentLabels(
        np.concatenate([of_canvas.classes, of_pasted.classes]),
        np.concatenate([of_canvas.isthing, of_pasted.isthing]),
        np.concatenate([of_canvas.iscrowd, of_pasted.iscrowd]),
    )
    return View(image, owner, labels, canvas.content_size, canvas.offset)


def _merged(
    canvas: View, pasted: View, new_owner: NDArray[np.int32]
) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Image and owners of `canvas` under those pixels of `pasted` that get a new owner (by owner + 1)."""
    from kmax.data.augmentation.pixel_loops import paste_words

    box, owner = pasted.content, canvas.owner.copy()
    if canvas.image.dtype == np.uint8:
        image = canvas.image.copy()
        bounds = box[0].start, box[0].stop, box[1].start, box[1].stop
        paste_words(words(image), owner, words(pasted.image), pasted.owner, new_owner, bounds)
        return image, owner
    found = new_owner[pasted.owner[box] + 1]
    mask = found != NOT_PASTED
    np.copyto(owner[box], found, where=mask)
    planes = canvas.image.transpose(2, 0, 1).copy()
    for plane, new in zip(planes, pasted.image.transpose(2, 0, 1), strict=True):
        np.copyto(plane[box], new[box], where=mask)
    return planes.transpose(1, 2, 0), owner
