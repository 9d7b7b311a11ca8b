"""What the losses read of a view: an index per pixel, never a plane per segment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kmax.data.augmentation.view import View, pixel_counts
from kmax.data.batch import NO_SEGMENT, VOID_CLASS


@dataclass(frozen=True)
class Targets:
    """Targets of one image; see `kmax.data.batch.Batch`."""

    segments: NDArray[np.int64]
    semantic: NDArray[np.int64]
    classes: NDArray[np.int64]
    thing_areas: NDArray[np.int64]


def targets_of(view: View, stride: int) -> Targets:
    """Segments that still have a pixel, numbered from 0, without crowd; and the semantic map with crowd.

    Args:
        stride: between the rows and columns that are kept; segments and areas are of all pixels.
    """
    labels = view.labels
    areas = pixel_counts(view)[2:]
    kept = np.flatnonzero((areas > 0) & ~labels.iscrowd)
    region = view.owner[::stride, ::stride] + 1  # 0 padding, 1 void, 2.. segments
    segment_of = np.full(len(labels) + 2, NO_SEGMENT, np.int64)
    segment_of[kept + 2] = np.arange(len(kept))
    class_of = np.full(len(labels) + 2, VOID_CLASS, np.int64)
    class_of[2:] = labels.classes
    return Targets(
        segments=segment_of[region],
        semantic=class_of[region],
        classes=labels.classes[kept],
        thing_areas=np.where(labels.isthing[kept], areas[kept], 0),
    )
