import itertools
import multiprocessing
import os
import shutil
import signal
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from small_datasets import data_of, few_shapes

from kmax.config import Augmentation, CopyPaste, Data
from kmax.data.batch import Batch
from kmax.data.datasets import Prepared, open_prepared
from kmax.data.download.download_dataset import download
from kmax.data.formats.coco_panoptic import read_image
from kmax.data.image_list import val_images
from kmax.data.loading.loader import network_input, train_batches, val_batches
from kmax.data.prepare.prepare_dataset import prepare
from kmax.errors import InputError

ALONE = {
    "seed": 0,
    "global_batch_size": 4,
    "start_step": 0,
    "rank": 0,
    "world_size": 1,
    "label_stride": 4,
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a prepared dataset, drawn once."""
    folder = tmp_path_factory.mktemp("drawn")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("params/datasets").mkdir(parents=True)
        few_shapes()
        download("few")
        prepare("few", workers=1)
    return folder


@pytest.fixture
def shapes(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    shutil.copytree(drawn, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return open_prepared("few")


def steps(prepared: Prepared, count: int, data=None, **changes) -> list[list[Batch]]:
    batches = train_batches(prepared, data or data_of("few"), **(ALONE | changes))
    return list(itertools.islice(batches, count))


def samples(step: list[Batch]) -> list[tuple]:
    """The samples of a step, comparable."""
    result = []
    for batch in step:
        for i in range(len(batch.image_ids)):
            values = [getattr(batch, field.name)[i] for field in fields(batch)]
            result.append(tuple(v.numpy().tobytes() if isinstance(v, torch.Tensor) else v for v in values))
    return result


def test_batches_have_the_promised_form(shapes: Prepared) -> None:
    (batch,) = steps(shapes, 1)[0]
    assert batch.images.shape == (4, 3, 65, 65)
    assert batch.images.dtype == torch.float32
    assert batch.images.abs().max() <= 1
    assert batch.segments.dtype == batch.semantic.dtype == torch.int64
    assert batch.segments.shape == batch.semantic.shape == (4, 17, 17)
    for segments, classes, areas in zip(batch.segments, batch.classes, batch.thing_areas, strict=True):
        assert classes.dtype == areas.dtype == torch.int64
        assert set(segments.unique().tolist()) - {-1} <= set(range(len(classes)))
        assert len(areas) == len(classes)
    assert batch.original_sizes == [(64, 80)] * 4


def original(name: str) -> Data:
    """The data section of a run with the whole pipeline of an original."""
    policy = "simple_classification_policy" if name == "tf" else "ssd"
    augmentation = Augmentation(
        flip=0.5,
        scale=[0.3, 1.7],
        scale_step=0.1 if name == "tf" else 0.0,
        color_jitter=0.0,
        color_policy=policy,
        redraw_below=None if name == "tf" else 100,
        copy_paste=CopyPaste(scale_factor=0.5),
    )
    return data_of("few", preprocessing=name, augmentation=augmentation)


@pytest.mark.parametrize(
    "data", [data_of("few"), original("tf"), original("torch")], ids=["own", "tf", "torch"]
)
def test_a_sample_does_not_depend_on_ranks_micro_batches_or_workers(shapes: Prepared, data: Data) -> None:
    alone = [samples(step) for step in steps(shapes, 5, data)]
    for world_size, micro_batches, workers in ((2, 1, 0), (1, 4, 0), (2, 2, 0), (1, 1, 2)):
        ranks = [
            steps(
                shapes,
                5,
                data,
                rank=rank,
                world_size=world_size,
                micro_batches=micro_batches,
                workers=workers,
            )
            for rank in range(world_size)
        ]
        for number, wanted in enumerate(alone):
            assert all(len(rank[number]) == micro_batches for rank in ranks)
            assert [sample for rank in ranks for sample in samples(rank[number])] == wanted


def test_resuming_at_any_step_continues_the_same_samples(shapes: Prepared) -> None:
    whole = [samples(step) for step in steps(shapes, 7)]
    for start in (1, 3, 6):
        assert [samples(step) for step in steps(shapes, 7 - start, start_step=start)] == whole[start:]


def test_an_epoch_shows_every_image_once(shapes: Prepared) -> None:
    seen = [i for step in steps(shapes, 6) for batch in step for i in batch.image_ids]
    assert sorted(seen[:12]) == sorted(seen[12:]) == list(range(1, 13))
    assert seen[:12] != seen[12:]


def test_a_batch_may_be_larger_than_the_dataset(shapes: Prepared) -> None:
    data = data_of("few", train_images=["000003.png", "000007.png"])
    (batch,) = steps(shapes, 1, data=data, global_batch_size=6)[0]
    assert sorted(batch.image_ids) == [4, 4, 4, 8, 8, 8]


def test_epochs_and_seeds_differ(shapes: Prepared) -> None:
    first, second = samples(steps(shapes, 1)[0]), samples(steps(shapes, 1, seed=1)[0])
    assert first != second
    one_image = data_of("few", train_images=["000003.png"])
    one, two = (samples(step) for step in steps(shapes, 2, data=one_image, global_batch_size=1))
    assert one != two


def test_reading_leaves_the_default_generator_alone(shapes: Prepared) -> None:
    """Drop path draws from it; the number of workers must not change what it draws."""
    state = torch.get_rng_state()
    steps(shapes, 2, workers=1)
    assert (torch.get_rng_state() == state).all()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_corrupt_image_ends_training_with_its_name(shapes: Prepared, workers: int, damage: str) -> None:
    path = shapes.split("train").images_dir / "000005.png"
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError) as caught:
        steps(shapes, 3, workers=workers)
    (fault,) = caught.value.lines()
    assert "images_train/000005.png: image" in fault
    assert "Traceback" not in fault


def test_what_cannot_be_divided_or_found_is_refused(shapes: Prepared) -> None:
    with pytest.raises(
        InputError, match=r"train\.global_batch_size: 4 images cannot be divided among 3 ranks"
    ):
        steps(shapes, 1, world_size=3)
    with pytest.raises(InputError, match="unknown split 'trian'; did you mean 'train'"):
        steps(shapes, 1, data=data_of("few", train_split="trian"))
    with pytest.raises(InputError, match=r"data\.train_images .*unknown image '3\.png'"):
        steps(shapes, 1, data=data_of("few", train_images=["3.png"]))


def test_validation_reads_each_image_once_over_shards(shapes: Prepared) -> None:
    data = data_of("few")
    images = val_images(shapes, data)
    whole = list(val_batches(shapes, data, val_images(shapes, data), batch_size=2))
    assert [len(batch.image_ids) for batch in whole] == [2, 2, 1]
    assert [i for batch in whole for i in batch.image_ids] == [1, 2, 3, 4, 5]
    sharded = [
        i
        for shard in range(3)
        for batch in val_batches(shapes, data, [i for i in images[shard::3] if i.id != 2], batch_size=2)
        for i in batch.image_ids
    ]
    assert sorted(sharded) == [1, 3, 4, 5]
    with_workers = list(val_batches(shapes, data, images, batch_size=2, workers=2))
    assert all(torch.equal(a.images, b.images) for a, b in zip(whole, with_workers, strict=True))


def test_validation_input_is_the_resized_image_padded_with_zero(shapes: Prepared) -> None:
    data = data_of("few")
    (batch, *_) = val_batches(shapes, data, val_images(shapes, data), batch_size=2)
    assert batch.original_sizes == [(64, 80)] * 2
    assert batch.content_sizes == [(52, 65)] * 2
    assert (batch.images[:, :, 52:] == 0).all()
    rgb = read_image(shapes.split("val").images_dir / batch.file_names[0])
    alone, content_size = network_input(rgb, (65, 65))
    assert content_size == (52, 65)
    assert torch.equal(alone, batch.images[0])


def test_validation_keeps_the_size_of_images_where_the_run_says_so(shapes: Prepared) -> None:
    data = data_of("few", (65, 97), preprocessing="tf", native_size=True)
    (batch, *_) = val_batches(shapes, data, val_images(shapes, data), batch_size=2)
    assert batch.content_sizes == [(64, 80)] * 2
    rgb = read_image(shapes.split("val").images_dir / batch.file_names[0])
    levels = (batch.images[0, :, :64, :80] * 127.5 + 127.5).round().byte()
    assert (levels.permute(1, 2, 0).numpy() == rgb).all()
    assert (batch.images[:, :, 64:] == 0).all()


def test_network_input_keeps_grey_levels() -> None:
    tensor, content_size = network_input(np.full((10, 20, 3), 255, np.uint8), (33, 65))
    assert content_size == (32, 65)
    torch.testing.assert_close(tensor[:, :32], torch.ones(3, 32, 65))
    assert (tensor[:, 32:] == 0).all()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_workers_outlive_a_signal_to_the_whole_job(shapes: Prepared, number: int) -> None:
    batches = train_batches(shapes, data_of("few"), workers=1, **ALONE)
    found = [samples(next(batches))]
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, number)
    found += [samples(next(batches)) for _ in range(4)]
    assert found == [samples(step) for step in steps(shapes, 5)]
