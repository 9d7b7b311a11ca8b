"""Evaluate images in as many processes as cores and memory allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from kmax.errors import InputError, InputWarnings
from kmax.machine import available_cpus, free_memory
from kmax.processes.parallel import map_checked

Item = TypeVar("Item")
Result = TypeVar("Result")
MEGABYTE = 2**20
IMAGES_PER_WORKER = 8
# Memory of a process that reads maps of 2048x1024 pixels.
MEGABYTES_EACH = 150


def each_image(
    function: Callable[[Item, InputWarnings], Result],
    images: Sequence[Item],
    workers: int | None,
    warnings: InputWarnings | None = None,
    strict: bool = False,
) -> list[Result]:
    """The results of `function(image, warnings)` for all images, in order.

    Args:
        function: picklable; its second argument collects the warnings of this image.
        workers: processes, each of which holds one image at a time; None: as many as cores and memory allow.
        warnings: receives the warnings of all images, in addition to those already present.
        strict: treat all of `warnings` as errors.

    Raises:
        InputError: fewer than one process, or the errors of all images.
    """
    workers = bounded_workers(workers, len(images), MEGABYTES_EACH)
    # The first image loads numba and compiled code, 100 MB that the forked processes then share.
    return map_checked(
        function, images, "evaluate", workers, warnings=warnings, strict=strict, first_here=True
    )


def bounded_workers(requested: int | None, images: int, megabytes_each: int) -> int:
    """Number of processes: as requested, or as many as the cores and half of the free memory allow.

    Args:
        requested: the user's choice; None: choose automatically.
        images: a process is not started for fewer than 8 of them.
        megabytes_each: memory of one process.

    Raises:
        InputError: fewer than one is requested.
    """
    if requested is not None:
        if requested < 1:
            raise InputError(f"--workers {requested}: at least one process is needed")
        return requested
    by_memory = free_memory() // 2 // (megabytes_each * MEGABYTE)
    return max(1, min(available_cpus(), by_memory, images // IMAGES_PER_WORKER))
