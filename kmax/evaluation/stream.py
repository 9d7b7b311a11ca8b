"""Going through the images of a split: read, count, forget; faults and oddities of all of them together."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kmax.errors import InputError
from kmax.evaluation.files import ImagePair, Matchable, Oddities, PanopticFiles, read_pair

T = TypeVar("T")


def read_all(
    files: PanopticFiles, count: Callable[[Matchable], T], workers: int = 1, strict: bool = False
) -> list[T]:
    """Read each image once and apply `count`; only its results are kept.

    Args:
        workers: threads; the number bounds the images in memory.
        strict: treat oddities as faults.

    Returns:
        The results in the order of the ground truth. Oddities are added to `files.oddities`.

    Raises:
        InputError: all faults of all images.
    """
    classes = {category.id: index for index, category in enumerate(files.categories)}

    def one(pair: ImagePair) -> tuple[T | None, Oddities, list[str]]:
        oddities = Oddities()
        try:
            return count(read_pair(pair, classes, oddities)), oddities, []
        except InputError as error:
            return None, oddities, error.faults

    faults: list[str] = []
    results: list[T] = []
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        for result, oddities, image_faults in pool.map(one, files.images):
            files.oddities.merge(oddities)
            faults.extend(image_faults)
            if result is not None:
                results.append(result)
    if strict:
        faults.extend(files.oddities.lines())
    if faults:
        raise InputError(faults)
    return results
