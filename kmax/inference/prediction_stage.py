"""The predict stage: predictions on a run's val images, resumable, in shards.

It may be stopped at any moment: each finished shard is kept in the run's state folder, under a name that
depends on everything that affects it, and is skipped when the same command comes again. The declared folder
appears at the end, by rename.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import multiprocessing

from kmax import paths
from kmax.config import Run
from kmax.data.datasets import Prepared, UnannotatedImages, open_prepared
from kmax.data.formats.coco_panoptic import Annotation, Image, ImageId, write_map
from kmax.data.formats.coco_panoptic_json import read_panoptic_json
from kmax.data.image_list import val_images
from kmax.data.loading.loader import InferenceBatch, val_batches
from kmax.errors import InputError
from kmax.files import atomic_folder, digest, exclusive_lock, sha256, write_json
from kmax.inference.prediction_files import (
    check_frame_names,
    coco_results,
    write_cityscapes_instances,
    write_labels,
)
from kmax.inference.prediction_pictures import draw_pictures
from kmax.inference.prediction_shards import (
    INSTANCES,
    Shard,
    cut_shards,
    gather,
    join_instances,
    remove_leftovers,
)
from kmax.inference.segment_batch import ImagePrediction, segment_images, segments_info
from kmax.model.io import ModelMetadata, load_model
from kmax.parallel import loader_workers
from kmax.progress import track

Truth = tuple[Path, Annotation]


def predict_run(run: Run, state: Path, provenance: Mapping[str, Any], split: str | None = None) -> Path:
    """Predict the val images of a run, or those of them that are not finished yet.

    Where `RANK` and `WORLD_SIZE` (torchrun) or `SLURM_PROCID` and `SLURM_STEP_NUM_TASKS` (srun) say that
    there are several launchers, each does its share, and the one that ends last publishes. A launcher starts
    a process per GPU that it sees; the processes of torchrun take one GPU each.

    Args:
        state: folder of the run's mutable state.
        provenance: what the caller knows of the model's origin; it is written into `provenance.json`, with
            the model's SHA-256.
        split: whose images are predicted instead, all of them; it needs no annotation.

    Returns:
        `results/<run>/predictions`, or `predictions-<split>`.

    Raises:
        InputError: model or data are missing or damaged (which file, and why).
    """
    job = _open_job(run, state, provenance, split)
    rank, world = launcher()
    gpus = torch.cuda.device_count()
    if gpus > 1 and "LOCAL_RANK" not in os.environ:
        _predict_on_gpus(job, rank * gpus, world * gpus, gpus)
    else:
        local_rank = int(os.environ.get("LOCAL_RANK", 0))
        device = torch.device("cuda", local_rank % gpus) if gpus else torch.device("cpu")
        _predict_share(job, rank, world, device)
    _publish(job)
    return job.target


def launcher() -> tuple[int, int]:
    """(rank, number) of this launcher among those that do the same command, from the environment.

    Raises:
        InputError: the variables are no such numbers.
    """
    for rank, world in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")):
        if rank in os.environ and world in os.environ:
            values = os.environ[rank], os.environ[world]
            if not all(value.isdecimal() for value in values) or int(values[0]) >= int(values[1]):
                raise InputError(f"environment: {rank}={values[0]} and {world}={values[1]} name no shard")
            return int(values[0]), int(values[1])
    return 0, 1


@dataclass(frozen=True)
class _Job:
    """What all ranks share.

    Attributes:
        run: its val images are those that are predicted.
        target: the folder to publish.
        work: holds the finished shards.
    """

    run: Run
    target: Path
    prepared: Prepared
    images: list[Image]
    work: Path
    provenance: dict[str, Any]

    def shards(self) -> list[Shard]:
        """All shards, finished or not."""
        return cut_shards(self.images, self.run.predict.batch_size, self.work)


def _open_job(run: Run, state: Path, provenance: Mapping[str, Any], split: str | None) -> _Job:
    prepared = open_prepared(run.data.dataset)
    if split is None:
        prepared.split(run.data.val_split)  # the run's own images are to be evaluated: annotated ones
    run = run.on_split(split)
    images = val_images(prepared, run.data)
    model_path = paths.model(run.run)
    if not model_path.exists():
        verb = "train" if run.train else "port"
        raise InputError(f"{model_path}: not found; make it first: kmax {verb} {run.run}")
    if run.predict.instances == "cityscapes":
        check_frame_names(
            [image.file_name for image in images], f"{paths.run_file(run.run)}: predict.instances"
        )
    sections = {"predict": run.predict.model_dump(), "data": run.data.model_dump()}
    model_sha256 = sha256(model_path)
    parts: list[Any] = [sections, run.model.flavour, model_sha256, prepared.digest]
    if run.data.val_split in prepared.unannotated:  # of which the digest of the dataset knows nothing
        parts.append([astuple(image) for image in images])
    key = digest(parts)
    told = {**provenance, "model_sha256": model_sha256}
    target, work = paths.predictions(run.run, split), state / f"predictions-{key[:16]}"
    return _Job(run, target, prepared, images, work, told)


def _predict_on_gpus(job: _Job, first_rank: int, world: int, gpus: int) -> None:
    """A process per GPU; a user's fault that one of them meets is raised here as it was raised there."""
    faults = multiprocessing.get_context("spawn").SimpleQueue()
    try:
        multiprocessing.spawn(_predict_on_gpu, (job, first_rank, world, faults), nprocs=gpus)  # type: ignore[attr-defined, no-untyped-call]
    except multiprocessing.ProcessExitedException:  # type: ignore[attr-defined]
        if faults.empty():
            raise
        raise InputError(faults.get()) from None


def _predict_on_gpu(local_rank: int, job: _Job, first_rank: int, world: int, faults: Any) -> None:
    try:
        _predict_share(job, first_rank + local_rank, world, torch.device("cuda", local_rank))
    except InputError as error:
        faults.put(error.faults)
        sys.exit(2)


def _predict_share(job: _Job, rank: int, world: int, device: torch.device) -> None:
    """Predict the unfinished shards among every `world`-th, from the shard `rank` on."""
    run, share = job.run, job.shards()[rank::world]
    wanted = {shard.images[0].id: shard for shard in share if shard.read() is None}
    if not wanted:
        return
    if len(wanted) < len(share) and rank == 0:
        print(
            f"predict {run.run}: {len(share) - len(wanted)} of {len(share)} shards are there", file=sys.stderr
        )
    model, metadata = load_model(paths.model(run.run))
    _check_categories(metadata, job)
    model.to(device)
    truths = _truths(job)
    isthing = torch.tensor([category.isthing for category in job.prepared.categories], device=device)
    unfinished = {image.id for shard in wanted.values() for image in shard.images}

    def predict() -> Iterator[None]:
        batches = val_batches(
            job.prepared,
            run.data,
            batch_size=run.predict.batch_size,
            skip={image.id for image in job.images} - unfinished,
            workers=loader_workers(torch.cuda.device_count() if device.type != "cpu" else 0),
        )
        for batch in batches:  # whole shards but for the last of all: a batch is a shard
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
            shard = wanted[batch.image_ids[0]]
            with shard.write(annotations) as folder:
                annotations += _write_batch(job, folder, shard, batch, list(results), truths)
            yield

    for _ in track(predict(), len(wanted), f"predict {run.run}"):
        pass


def _truths(job: _Job) -> dict[ImageId, Truth]:
    """PNG and segments of the ground truth of each image that has one."""
    split = job.prepared.images_of(job.run.data.val_split)
    if isinstance(split, UnannotatedImages):
        return {}
    annotations = read_panoptic_json(split.panoptic_json).annotations
    return {one.image_id: (split.panoptic_dir / one.file_name, one) for one in annotations}


def _write_batch(
    job: _Job,
    folder: Path,
    shard: Shard,
    batch: InferenceBatch,
    results: list[ImagePrediction],
    truths: dict[ImageId, Truth],
) -> list[dict[str, Any]]:
    """Write all files of one batch; return the images' annotations in COCO panoptic format."""
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
                truth=truths.get(image.id),
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
        raise InputError(f"{path}: its categories are not those of the dataset '{dataset}'")


def _publish(job: _Job) -> None:
    """Put the finished shards where they are declared, once all of them are there."""
    with exclusive_lock(job.work / ".lock", f"{job.work}: another process publishes it", wait=True):
        shards = job.shards()
        if not all(shard.folder.exists() for shard in shards):
            return  # the launchers of other ranks are still at work; the last one comes here again
        annotations: list[dict[str, Any]] = []
        for shard in shards:
            finished = shard.read()
            if finished is None:
                return
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
