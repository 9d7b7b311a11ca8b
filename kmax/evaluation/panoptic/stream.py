"""Going through the images of a split: read, count, forget; faults and oddities of all of them together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from kmax.errors import InputError
from kmax.evaluation.panoptic.image_segments import Matchable, read_pair
from kmax.evaluation.panoptic.panoptic_files import ImagePair, Oddities, PanopticFiles
from kmax.evaluation.workers import each_image

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
        workers: processes; each holds one image at a time. None: as many as cores and memory allow.
        strict: treat oddities as faults.

    Returns:
        The results in the order of the ground truth. Oddities and digests are added to `files`.

    Raises:
        InputError: all faults of all images.
    """
    classes = {category.id: index for index, category in enumerate(files.categories)}
    faults: list[str] = []
    results: list[T] = []
    one = partial(_read_one, classes=classes, count=count)
    for result, sha256, oddities, image_faults in each_image(one, files.images, workers):
        files.oddities.merge(oddities)
        faults.extend(image_faults)
        if result is not None:
            results.append(result)
            files.sha256.append(sha256)
    if strict:
        faults.extend(files.oddities.faults())
    if faults:
        raise InputError(faults)
    return results


def _read_one(
    pair: ImagePair, classes: dict[int, int], count: Callable[[Matchable], T]
) -> tuple[T | None, tuple[str, str], Oddities, list[str]]:
    oddities = Oddities()
    try:
        image = read_pair(pair, classes, oddities)
        return count(image), image.sha256, oddities, []
    except InputError as error:
        return None, ("", ""), oddities, error.faults
