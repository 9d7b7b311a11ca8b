"""Reading samples in this process or in workers, in order; a fault in a worker remains a one-line error."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from kmax.errors import InputError

Key = TypeVar("Key")
Sample = TypeVar("Sample")
Collated = TypeVar("Collated")


class _FaultsAsValues(Dataset[Sample | InputError]):
    """Returns an InputError instead of raising it: worker processes would wrap it in a traceback."""

    def __init__(self, samples: Dataset[Sample]) -> None:
        self.samples = samples

    def __getitem__(self, key: Key) -> Sample | InputError:
        try:
            return self.samples[key]
        except InputError as error:
            return error


@dataclass(frozen=True)
class _Collate(Generic[Sample, Collated]):
    """Collates samples, or joins their faults."""

    collate: Callable[[list[Sample]], Collated]

    def __call__(self, samples: list[Sample | InputError]) -> Collated | InputError:
        sound = [sample for sample in samples if not isinstance(sample, InputError)]
        faults = [fault for sample in samples if isinstance(sample, InputError) for fault in sample.faults]
        return InputError(faults) if faults else self.collate(sound)


def empty_images(count: int, size: tuple[int, int]) -> Tensor:
    """Uninitialised float32 [count, 3, H, W]; in a worker, in shared memory, so that it is not copied."""
    shape = count, 3, *size
    if get_worker_info() is None:
        return torch.from_numpy(np.empty(shape, np.float32))  # NumPy asks for huge pages, torch does not
    storages: Any = torch.UntypedStorage  # as torch's own collate function does
    storage = storages._new_shared(math.prod(shape) * torch.float32.itemsize)
    flat: Tensor = torch.empty(0, dtype=torch.float32).set_(storage)
    return flat.view(shape)


def _leave_signals_to_the_parent(worker: int) -> None:
    """SLURM signals all processes of a job; a worker killed by it would end training without a checkpoint."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def read_samples(
    samples: Dataset[Sample],
    keys: Iterable[list[Key]],
    collate: Callable[[list[Sample]], Collated],
    workers: int,
) -> Iterator[Collated]:
    """Collated samples for each list of keys, in order, from this process or from workers."""
    if workers == 0:
        for group in keys:
            yield collate([samples[key] for key in group])
        return
    loader: DataLoader[Sample | InputError] = DataLoader(
        _FaultsAsValues(samples),
        batch_sampler=keys,
        collate_fn=_Collate(collate),
        num_workers=workers,
        worker_init_fn=_leave_signals_to_the_parent,
        generator=torch.Generator(),  # otherwise it draws from the default generator, which drop path uses
    )
    for item in loader:
        if isinstance(item, InputError):
            raise item
        yield item
