"""Batches for training and inference.

Sample i of epoch e depends only on (seed, e, i), not on the number of workers or ranks, nor on where
training was resumed. An epoch is a random order of all images; batches continue across epochs, so none is
partial.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from kmax.config import Data
from kmax.data.augmentation.fitting import Pipeline, write_fitted
from kmax.data.augmentation.training_view import train_view
from kmax.data.augmentation.view import ImageTargets, View, targets_of, write_input
from kmax.data.batch import Batch
from kmax.data.datasets import ImageFolder, Prepared
from kmax.data.formats.coco_panoptic import Image, ImageId, read_image_words
from kmax.data.image_source import CACHE_BYTES, ImageSource
from kmax.data.loading.sample_workers import empty_images, read_samples
from kmax.errors import InputError

ORDER, PARTNER_ORDER, SAMPLE = range(3)  # streams of random numbers


@dataclass(frozen=True)
class InferenceBatch:
    """Images to predict on.

    Attributes:
        images: float32 [B, 3, H, W] in -1..1; the image is at the top left, padding is 0.
        image_ids: as in the panoptic JSON.
        file_names: of the images.
        content_sizes: per image (height, width) of the part of the input that is image.
        original_sizes: per image (height, width) of the file.
    """

    images: Tensor
    image_ids: list[ImageId]
    file_names: list[str]
    content_sizes: list[tuple[int, int]]
    original_sizes: list[tuple[int, int]]


def network_input(
    rgb: NDArray[np.uint8],
    image_size: tuple[int, int],
    preprocessing: Pipeline = None,
    native_size: bool = False,
) -> tuple[Tensor, tuple[int, int]]:
    """Make one image network input.

    Args:
        rgb: uint8 [h, w, 3], or [h, w, 4] with an unused last channel.
        image_size: (height, width) of the network input.
        preprocessing: the original whose resampling is used; None: antialiased.
        native_size: keep the image's size unless it is larger than the input.

    Returns:
        float32 [3, H, W] in -1..1, aspect kept, padded at the bottom and right with 0; and the
        (height, width) of the part that is image.
    """
    planes = np.empty((3, *image_size), np.float32)
    content_size = write_fitted(rgb, planes, preprocessing, native_size)
    return torch.from_numpy(planes), content_size


def train_batches(
    prepared: Prepared,
    data: Data,
    *,
    seed: int,
    global_batch_size: int,
    start_step: int,
    rank: int,
    world_size: int,
    label_stride: int,
    micro_batches: int = 1,
    workers: int = 0,
    stopping: Callable[[], bool] = lambda: False,
) -> Generator[list[Batch], None, None]:
    """Endless steps of training data for one rank, from `start_step` on.

    Args:
        global_batch_size: images per step over all ranks and micro-batches; rank r reads the r-th contiguous
            part.
        label_stride: of the targets' rows and columns: that of the network's output, where losses read them.
        micro_batches: number of parts per rank, for gradient accumulation.
        workers: processes that read ahead; 0: none.
        stopping: whether to stop; then workers that do not answer are waited for only a few seconds.

    Returns:
        An iterator over steps; each item is the rank's micro-batches.

    Raises:
        InputError: unknown split or listed image, an indivisible batch size; while iterating, a file that
            is missing or corrupt, or a worker was killed.
        NoResultError: while iterating, if `stopping` and the workers do not answer.
    """
    parts = world_size * micro_batches
    if global_batch_size % parts:
        raise InputError(
            f"train.global_batch_size: {global_batch_size} images cannot be divided among {world_size} ranks "
            f"with {micro_batches} micro-batches"
        )
    size = global_batch_size // parts
    source = ImageSource(
        prepared,
        data.train_split,
        data.train_images,
        f"data.train_images ({data.dataset}/{data.train_split})",
        CACHE_BYTES // max(1, workers),
    )

    def keys() -> Iterator[list[int]]:
        first = start_step * global_batch_size + rank * micro_batches * size
        while True:
            yield list(range(first, first + micro_batches * size))
            first += global_batch_size

    return read_samples(
        _TrainSamples(source, data, seed, label_stride),
        keys(),
        functools.partial(_train_step, size),
        workers,
        stopping,
    )


def val_batches(
    prepared: Prepared,
    data: Data,
    images: list[Image],
    *,
    batch_size: int,
    workers: int = 0,
) -> Generator[InferenceBatch, None, None]:
    """Batches of validation images in the order of `images`; the last batch may be smaller.

    Args:
        images: images of the val split, such as those of `read_val_split`.

    Raises:
        InputError: unknown split; while iterating, a file that is missing or corrupt.
    """
    keys = (images[i : i + batch_size] for i in range(0, len(images), batch_size))
    samples = _ValSamples(prepared.images_of(data.val_split))
    return read_samples(samples, keys, functools.partial(_inference_batch, data), workers)


# ----------------------------------------------------------------------------------------------- samples


@dataclass(frozen=True)
class _TrainSample:
    view: View
    targets: ImageTargets
    about: Image


class _TrainSamples(Dataset[_TrainSample]):
    """Sample n of a run: image n % N of the order of epoch n // N."""

    def __init__(self, source: ImageSource, data: Data, seed: int, label_stride: int) -> None:
        self.label_stride = label_stride
        self.source = source
        self.data = data
        self.seed = seed

    def __getitem__(self, number: int) -> _TrainSample:
        epoch, position = divmod(number, len(self.source))
        rng = np.random.default_rng([SAMPLE, self.seed, epoch, position])
        index, partner = (
            _order(stream, self.seed, epoch, len(self.source))[position] for stream in (ORDER, PARTNER_ORDER)
        )
        about, view = train_view(rng, self.source, index, partner, self.data)
        return _TrainSample(view, targets_of(view, self.label_stride), about)


@functools.lru_cache(maxsize=8)
def _order(stream: int, seed: int, epoch: int, count: int) -> list[int]:
    """A random order of `count` images; copy-paste partners have a separate order."""
    order: list[int] = np.random.default_rng([stream, seed, epoch, 0]).permutation(count).tolist()
    return order


def _train_step(size: int, samples: list[_TrainSample]) -> list[Batch]:
    return [_batch(samples[i : i + size]) for i in range(0, len(samples), size)]


def _batch(samples: list[_TrainSample]) -> Batch:
    def stack(arrays: Iterable[NDArray[np.generic]]) -> Tensor:
        return torch.from_numpy(np.stack(list(arrays)))

    images = empty_images(len(samples), samples[0].view.owner.shape)
    for sample, image in zip(samples, images.numpy(), strict=True):
        write_input(sample.view, image)
    return Batch(
        images=images,
        segments=stack(sample.targets.segments for sample in samples),
        semantic=stack(sample.targets.semantic for sample in samples),
        classes=[torch.from_numpy(sample.targets.classes) for sample in samples],
        image_ids=[sample.about.id for sample in samples],
        content_sizes=[sample.view.content_size for sample in samples],
        original_sizes=[(sample.about.height, sample.about.width) for sample in samples],
        thing_areas=[torch.from_numpy(sample.targets.thing_areas) for sample in samples],
    )


@dataclass(frozen=True)
class _ValSample:
    rgb: NDArray[np.uint8]
    about: Image


class _ValSamples(Dataset[_ValSample]):
    """Validation images as stored; they are resized directly into the batch."""

    def __init__(self, split: ImageFolder) -> None:
        split.require_images()
        self.split = split

    def __getitem__(self, about: Image) -> _ValSample:
        path = self.split.images_dir / about.file_name
        rgb = read_image_words(path)
        if rgb.shape[:2] != (about.height, about.width):
            found, listed = f"{rgb.shape[1]}x{rgb.shape[0]}", f"{about.width}x{about.height}"
            raise InputError(f"{path}: image is {found}, listed as {listed}")
        return _ValSample(rgb, about)


def _inference_batch(data: Data, samples: list[_ValSample]) -> InferenceBatch:
    images = empty_images(len(samples), (data.image_size[0], data.image_size[1]))
    return InferenceBatch(
        images=images,
        image_ids=[sample.about.id for sample in samples],
        file_names=[sample.about.file_name for sample in samples],
        content_sizes=[
            write_fitted(sample.rgb, image, data.preprocessing, data.native_size)
            for sample, image in zip(samples, images.numpy(), strict=True)
        ],
        original_sizes=[(sample.about.height, sample.about.width) for sample in samples],
    )
