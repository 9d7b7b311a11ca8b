"""Reading samples in this process or in workers, in order; a fault in a worker remains a one-line error."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from kmax.errors import InputError
from kmax.processes.child_processes import SIGNALS
from kmax.processes.shared_messages import shared_array
from kmax.processes.worker_processes import Crew

Key = TypeVar("Key")
Sample = TypeVar("Sample")
Collated = TypeVar("Collated")
BATCHES_AHEAD = 2  # per worker
_is_worker = False


class _TensorPickler(pickle.Pickler):
    """Pickles tensors as arrays, which `kmax.processes.shared_messages` passes on as memory."""

    def reducer_override(self, value: Any) -> Any:
        """The array of a tensor; everything else is pickled as usual."""
        return (torch.from_numpy, (value.numpy(),)) if isinstance(value, Tensor) else NotImplemented


def empty_images(count: int, size: tuple[int, int]) -> Tensor:
    """Float32 [count, 3, H, W] to be filled; in a worker, in shared memory, so that it is not copied."""
    shape = count, 3, *size
    if not _is_worker:
        return torch.from_numpy(np.empty(shape, np.float32))  # NumPy asks for huge pages, torch does not
    return torch.from_numpy(shared_array(shape, np.float32))


def _become_worker() -> None:
    global _is_worker
    _is_worker = True
    torch.set_num_threads(1)  # threads of the parent do not exist here


def read_samples(
    samples: Dataset[Sample],
    keys: Iterable[list[Key]],
    collate: Callable[[list[Sample]], Collated],
    workers: int,
    stopping: Callable[[], bool] = lambda: False,
) -> Generator[Collated, None, None]:
    """Collated samples for each list of keys, in order, from this process or from workers.

    Args:
        stopping: whether to stop; then workers that do not answer are waited for only a few seconds.

    Raises:
        InputError: bad samples, all faults of a batch; a worker was killed.
        NoResultError: `stopping`, and the workers do not answer.
    """

    def batch(group: list[Key]) -> Collated:
        return collate([samples[key] for key in group])

    def batch_or_faults(group: list[Key]) -> Collated:
        sound: list[Sample] = []
        faults: list[str] = []
        for key in group:
            try:
                sound.append(samples[key])
            except InputError as error:
                faults.extend(error.faults)
        if faults:
            raise InputError(faults)
        return collate(sound)

    if workers == 0:
        yield from map(batch, keys)
        return
    crew: Crew[list[Key], Collated] = Crew(
        batch_or_faults,
        workers,
        ahead=BATCHES_AHEAD,
        prepare=_become_worker,
        # SLURM signals all processes of a job; a worker ended by it would end training without a checkpoint.
        ignored=SIGNALS,
        pickler=_TensorPickler,
        stopping=stopping,
    )
    with contextlib.closing(crew.results(iter(keys))) as batches:
        yield from batches
