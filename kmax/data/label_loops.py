"""Passes over label maps as machine code; imported where it is called.

Regions are flat: a pixel is nearly always what the one before it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.compiled import compiled


@compiled
def look_up(
    ids: NDArray[np.int32], listed: NDArray[np.int32], owners: NDArray[Any], result: NDArray[Any]
) -> int:
    """The owner of each id.

    Args:
        ids: int32 [H, W].
        listed: the ids that have an owner, int32 [N], ascending.
        owners: theirs [N].
        result: [H, W], of the kind of `owners`; written.

    Returns:
        The first id that is not listed; -1 where there is none.
    """
    last, owner = np.int32(-1), owners[0]
    for y in range(ids.shape[0]):
        row, result_row = ids[y], result[y]
        for x in range(len(row)):
            found = row[x]
            if found != last:
                place = np.searchsorted(listed, found)
                if place == len(listed) or listed[place] != found:
                    return int(found)
                last, owner = found, owners[place]
            result_row[x] = owner
    return -1


@compiled
def count_owners(owner: NDArray[Any], counts: NDArray[np.int64]) -> None:
    """Add the pixels of each owner [H, W] from -1 on to `counts`, whose first entry is that of -1."""
    for y in range(owner.shape[0]):
        row = owner[y]
        last, start = row[0], 0
        for x in range(len(row)):
            if row[x] != last:
                counts[np.int64(last) + 1] += x - start
                last, start = row[x], x
        counts[np.int64(last) + 1] += len(row) - start
