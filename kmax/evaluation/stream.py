"""Going through the images of a split: read, count, forget; faults and oddities of all of them together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from kmax.data.parallel import map_items
from kmax.errors import InputError
from kmax.evaluation.files import ImagePair, Oddities, PanopticFiles
from kmax.evaluation.matchable import Matchable, read_pair

T = TypeVar("T")


def read_all(
    files: PanopticFiles,
    count: Callable[[Matchable], T],
    workers: int | None = 1,
    strict: bool = False,
) -> list[T]:
    """Read each image once and apply `count`; only its results are kept.

    Args:
        count: picklable.
        workers: processes; each holds one image at a time. None: as many as there are cores.
        strict: treat oddities as faults.

    Returns:
        The results in the order of the ground truth. Oddities are added to `files.oddities`.

    Raises:
        InputError: all faults of all images.
    """
    classes = {category.id: index for index, category in enumerate(files.categories)}
    faults: list[str] = []
    results: list[T] = []
    one = partial(_read_one, classes=classes, count=count)
    for result, oddities, image_faults in map_items(one, files.images, "evaluate", workers):
        files.oddities.merge(oddities)
        faults.extend(image_faults)
        if result is not None:
            results.append(result)
    if strict:
        faults.extend(files.oddities.lines())
    if faults:
        raise InputError(faults)
    return results


def _read_one(
    pair: ImagePair, classes: dict[int, int], count: Callable[[Matchable], T]
) -> tuple[T | None, Oddities, list[str]]:
    oddities = Oddities()
    try:
        return count(read_pair(pair, classes, oddities)), oddities, []
    except InputError as error:
        return None, oddities, error.faults
