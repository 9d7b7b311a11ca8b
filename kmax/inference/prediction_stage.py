"""The predict stage: predictions on a run's val images, resumable, in shards.

It can be stopped at any time: each finished shard is kept in the run's state folder, under a name that
depends on everything that affects it, and the next call skips it. The declared folder appears at the end, by
rename.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch

from kmax import paths
from kmax.config import Run
from kmax.data.datasets import Prepared, open_prepared
from kmax.data.formats.coco_panoptic import Annotation, Image, ImageId, write_map
from kmax.data.image_list import read_val_split
from kmax.data.loading.loader import InferenceBatch, val_batches
from kmax.errors import InputError
from kmax.files import atomic_folder, digest, exclusive_lock, remove_leftovers, sha256, write_json
from kmax.inference.prediction_files import (
    check_frame_names,
    coco_results,
    write_cityscapes_instances,
    write_labels,
)
from kmax.inference.prediction_peers import Peers, folder_stamp
from kmax.inference.prediction_pictures import draw_pictures
from kmax.inference.prediction_shards import (
    INSTANCES,
    Shard,
    cut_shards,
    gather,
    join_instances,
)
from kmax.inference.segment_batch import ImagePrediction, segment_images, segments_info
from kmax.machine import gpu_count, launcher, loader_workers, local_rank
from kmax.model.io import ModelMetadata, load_model
from kmax.processes.child_processes import release_signals
from kmax.processes.process_group import ProcessGroup
from kmax.progress import track
from kmax.runs.families import location

Truth = tuple[Path, Annotation]


def predict_run(run: Run, state: Path, provenance: Mapping[str, Any], split: str | None = None) -> Path:
    """Predict the val images of a run that are not predicted yet.

    Several copies of the command, started by torchrun or srun (`kmax.machine.launcher`), predict a share
    each; all of them wait for the last one, which publishes. Each copy starts a process per visible GPU;
    processes of torchrun use one GPU each.

    Args:
        state: folder of the run's mutable state.
        provenance: the origin of the model; it is written to `provenance.json` with the model's SHA-256.
        split: another split, of which all images are predicted; it needs no annotation.

    Returns:
        `results/<run>/predictions`, or `predictions-<split>`.

    Raises:
        InputError: the model or data is missing or corrupt; other copies were announced, but are not running.
    """
    job = _open_job(run, state, provenance, split)
    peers = Peers(job.work, *launcher())
    before = folder_stamp(job.target)
    with peers.present():
        _predict_on_devices(job, peers)
        peers.wait_for(job.shards())
        _publish(job, before)
    return job.target


@dataclass(frozen=True)
class _Job:
    """The task that all ranks share.

    Attributes:
        run: parameters, with the split to predict as val split.
        target: the folder to publish.
        truths: PNG and segments of the ground truth of the images that are drawn, if they have one.
        work: folder of the finished shards.
    """

    run: Run
    target: Path
    prepared: Prepared
    images: list[Image]
    truths: dict[ImageId, Truth]
    work: Path
    provenance: dict[str, Any]

    def shards(self) -> list[Shard]:
        """All shards, finished or not."""
        return cut_shards(self.images, self.run.predict.batch_size, self.work)


def _open_job(run: Run, state: Path, provenance: Mapping[str, Any], split: str | None) -> _Job:
    prepared = open_prepared(run.data.dataset)
    if split is None:
        prepared.split(
            run.data.val_split
        )  # the run's own images will be evaluated, so they must be annotated
    run = run.on_split(split)
    listed = read_val_split(prepared, run.data)
    images = listed.images
    model_path = paths.model(run.run)
    if not model_path.exists():
        verb = "train" if run.train else "port"
        raise InputError(f"{model_path}: not found; run: kmax {verb} {run.run}")
    if run.predict.instances == "cityscapes":
        check_frame_names([image.file_name for image in images], f"{location(run.run)}.predict.instances")
    sections = {"predict": run.predict.model_dump(), "data": run.data.model_dump()}
    model_sha256 = sha256(model_path)
    parts: list[Any] = [sections, run.model.flavour, model_sha256, prepared.digest]
    if run.data.val_split in prepared.unannotated:  # the dataset's digest does not cover them
        parts.append([astuple(image) for image in images])
    key = digest(parts)
    provenance = {**provenance, "model_sha256": model_sha256}
    target, work = paths.predictions(run.run, split), state / f"predictions-{key[:16]}"
    truths: dict[ImageId, Truth] = {}
    if listed.annotations is not None:
        folder = prepared.split(run.data.val_split).panoptic_dir
        drawn = listed.annotations[: run.predict.pictures]
        truths = {one.image_id: (folder / one.file_name, one) for one in drawn}
    return _Job(run, target, prepared, images, truths, work, provenance)


def _predict_on_devices(job: _Job, peers: Peers) -> None:
    """Predict this copy's share on its GPU, in a process per GPU if there are several, or on the CPU."""
    gpus, local = gpu_count(), local_rank()
    if gpus <= 1 or local is not None:
        device = torch.device("cuda", (local or 0) % gpus) if gpus else torch.device("cpu")
        _predict_share(job, peers.rank, peers.world, device)
        return
    first, world = peers.rank * gpus, peers.world * gpus
    group = ProcessGroup("the process of GPU")
    group.run(_predict_on_gpu, [(job, gpu, first + gpu, world) for gpu in range(gpus)], [{}] * gpus)


def _predict_on_gpu(job: _Job, gpu: int, rank: int, world: int) -> None:
    release_signals(ignored=(signal.SIGINT,))
    _predict_share(job, rank, world, torch.device("cuda", gpu))


def _predict_share(job: _Job, rank: int, world: int, device: torch.device) -> None:
    """Predict the unfinished ones of the shards `rank`, `rank + world`, `rank + 2 * world`, ..."""
    run, share = job.run, job.shards()[rank::world]
    unfinished_shards = {shard.images[0].id: shard for shard in share if shard.read() is None}
    if not unfinished_shards:
        return
    if len(unfinished_shards) < len(share) and rank == 0:
        print(
            f"predict {run.run}: {len(share) - len(unfinished_shards)} of {len(share)} shards are finished",
            file=sys.stderr,
        )
    model, metadata = load_model(paths.model(run.run))
    _check_categories(metadata, job)
    model.to(device)
    isthing = torch.tensor([category.isthing for category in job.prepared.categories], device=device)
    unfinished = [image for shard in unfinished_shards.values() for image in shard.images]

    def predict() -> Iterator[None]:
        for batch in batches:  # each batch is one shard
            results = segment_images(
                model,
                batch.images.to(device),
                batch.content_sizes,
                batch.original_sizes,
                isthing,
                run.predict,
                batch.image_ids,
            )
            annotations: list[dict[str, Any]] = []
            shard = unfinished_shards[batch.image_ids[0]]
            with shard.write(annotations) as folder:
                annotations += _write_batch(job, folder, shard, batch, list(results))
            yield

    workers = loader_workers(gpu_count() if device.type != "cpu" else 0)
    size = run.predict.batch_size
    loaded = val_batches(job.prepared, run.data, unfinished, batch_size=size, workers=workers)
    with contextlib.closing(loaded) as batches:
        for _ in track(predict(), len(unfinished_shards), f"predict {run.run}"):
            pass


def _write_batch(
    job: _Job,
    folder: Path,
    shard: Shard,
    batch: InferenceBatch,
    results: list[ImagePrediction],
) -> list[dict[str, Any]]:
    """Write all files of one batch; returns the images' annotations in COCO panoptic format."""
    predict, categories = job.run.predict, job.prepared.categories
    images_dir = job.prepared.images_of(job.run.data.val_split).images_dir
    pictured = {image.id for image in job.images[: predict.pictures]}
    annotations, detections = [], []
    for place, (image, result) in enumerate(zip(shard.images, results, strict=True)):
        name = Path(image.file_name).with_suffix(".png")
        if image.id in pictured:
            draw_pictures(
                folder / "pictures" / "-".join(name.with_suffix("").parts),
                images_dir / image.file_name,
                result.panoptic,
                result.assignments,
                categories,
                input_size=(batch.images.shape[2], batch.images.shape[3]),
                content_size=batch.content_sizes[place],
                truth=job.truths.get(image.id),
            )
        write_map(folder / "panoptic" / name, result.panoptic.ids)
        if result.semantic is not None:
            write_labels(folder / "semantic" / name, result.semantic, categories)
        if predict.instances == "cityscapes":
            text = folder / "instances" / name.with_suffix(".txt")
            write_cityscapes_instances(text, result.instances, categories)
        elif predict.instances == "coco":
            detections += coco_results(result.instances, image.id, categories)
        segments = segments_info(result.panoptic, categories)
        annotations.append({"image_id": image.id, "file_name": str(name), "segments_info": segments})
    if predict.instances == "coco":
        write_json(folder / INSTANCES, detections)
    return annotations


def _check_categories(metadata: ModelMetadata, job: _Job) -> None:
    if [c.id for c in metadata.categories] != [c.id for c in job.prepared.categories]:
        path, dataset = paths.model(job.run.run), job.prepared.dataset
        raise InputError(f"{path}: the model's categories differ from those of dataset '{dataset}'")


def _publish(job: _Job, before: tuple[int, int] | None) -> None:
    """Assemble the declared folder from the finished shards, unless another copy has done it meanwhile.

    Args:
        before: stamp of the declared folder before this copy predicted.
    """
    with exclusive_lock(job.work / ".lock", f"{job.work}: locked by another process", wait=True):
        if folder_stamp(job.target) != before:
            return
        shards = job.shards()
        annotations: list[dict[str, Any]] = []
        for shard in shards:
            finished = shard.read()
            if finished is None:
                raise InputError(f"{shard.folder}: removed or changed meanwhile; run the command again")
            annotations += finished
        with atomic_folder(job.target) as folder:
            gather(shards, folder)
            if job.run.predict.instances == "coco":
                join_instances(shards, folder / INSTANCES)
            images = [
                {"id": i.id, "file_name": i.file_name, "width": i.width, "height": i.height}
                for i in job.images
            ]
            content = {
                "images": images,
                "categories": [category.model_dump() for category in job.prepared.categories],
                "annotations": annotations,
            }
            write_json(folder / "panoptic.json", content)
            write_json(folder / paths.predictions_provenance(job.run.run).name, job.provenance)
        remove_leftovers(job.work)
