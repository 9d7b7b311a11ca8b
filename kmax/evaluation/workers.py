"""Going through images in as many processes as may evaluate at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from kmax.errors import InputError
from kmax.machine import available_cpus, free_memory
from kmax.parallel import map_items

Item = TypeVar("Item")
Result = TypeVar("Result")
MEGABYTE = 2**20
IMAGES_PER_WORKER = 8
# What a process takes that reads maps of 2048x1024 pixels.
MEGABYTES_EACH = 150


def each_image(
    function: Callable[[Item], Result], images: Sequence[Item], workers: int | None
) -> Iterator[Result]:
    """What `function` (picklable) makes of each image, in order.

    Args:
        workers: processes, each of which holds one image at a time; None: as many as cores and memory allow.

    Raises:
        InputError: fewer than one process.
    """
    workers = bounded_workers(workers, len(images), MEGABYTES_EACH)
    if workers > 1 and images:
        # The processes then share what the first image needs: numba and machine code, 100 MB.
        yield function(images[0])
        images = images[1:]
    yield from map_items(function, images, "evaluate", workers)


def bounded_workers(wanted: int | None, images: int, megabytes_each: int) -> int:
    """Number of processes: what is asked for, or as many as cores and half of the free memory allow.

    Args:
        wanted: from the user; None: decide here.
        images: fewer than 8 for each process are not worth its start.
        megabytes_each: what one process takes.

    Raises:
        InputError: fewer than one is asked for.
    """
    if wanted is not None:
        if wanted < 1:
            raise InputError(f"--workers {wanted}: at least one process is needed")
        return wanted
    by_memory = free_memory() // 2 // (megabytes_each * MEGABYTE)
    return max(1, min(available_cpus(), by_memory, images // IMAGES_PER_WORKER))
