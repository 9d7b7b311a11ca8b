"""The predict stage: panoptic predictions of a run's val images, resumable, in shards.

It may be stopped at any moment: each finished image is kept in the run's state folder, under a name that
depends on everything that affects it, and is skipped when the same command comes again. The declared folder
appears at the end, by rename.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import multiprocessing

from kmax import paths
from kmax.config import Run
from kmax.data.datasets import Prepared, open_prepared
from kmax.data.loader import val_batches
from kmax.data.panoptic import Annotation, Image, ImageId, select_images, write_map
from kmax.data.panoptic_json import read_panoptic_json
from kmax.errors import InputError
from kmax.files import atomic_folder, digest, exclusive_lock, read_json, sha256, write_json
from kmax.inference.pictures import draw_pictures
from kmax.inference.segment import segment_images, segments_info
from kmax.model.io import ModelMetadata, load_model
from kmax.progress import track


def predict_run(run: Run, state: Path, provenance: Mapping[str, Any]) -> Path:
    """Predict the val images of a run, or those of them that are not finished yet.

    Where `RANK` and `WORLD_SIZE` (torchrun) or `SLURM_PROCID` and `SLURM_STEP_NUM_TASKS` (srun) say that
    there are several launchers, each does its share, and the one that ends last publishes. A launcher starts
    a process per GPU that it sees; the processes of torchrun take one GPU each.

    Args:
        state: folder of the run's mutable state.
        provenance: what the caller knows of the model's origin; it is written into `provenance.json`, with
            the model's SHA-256.

    Returns:
        `results/<run>/predictions`.

    Raises:
        InputError: model or data are missing or damaged (which file, and why).
    """
    job = _open_job(run, state, provenance)
    rank, world = launcher()
    gpus = torch.cuda.device_count()
    if gpus > 1 and "LOCAL_RANK" not in os.environ:
        _predict_on_gpus(job, rank * gpus, world * gpus, gpus)
    else:
        local_rank = int(os.environ.get("LOCAL_RANK", 0))
        device = torch.device("cuda", local_rank % gpus) if gpus else torch.device("cpu")
        _predict_shard(job, rank, world, device)
    _publish(job)
    return paths.predictions(run.run)


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
    """What all shards share. `work` holds finished images: `panoptic/`, `segments/` and `pictures/`."""

    run: Run
    prepared: Prepared
    images: list[Image]
    work: Path
    provenance: dict[str, Any]

    def finished(self) -> dict[ImageId, dict[str, Any]]:
        """The annotations of the finished images: their JSON is written last; a damaged one is none."""
        annotations = {}
        for image in self.images:
            with contextlib.suppress(InputError):
                if self.segments(image).exists():
                    annotations[image.id] = read_json(self.segments(image), "finished prediction")
        return annotations

    def segments(self, image: Image) -> Path:
        """The JSON of one finished image."""
        return self.work / "segments" / Path(image.file_name).with_suffix(".json")

    def pictures(self, image: Image) -> Path:
        """Folder of the image's pictures; images of one name in several folders have one each."""
        return self.work / "pictures" / "-".join(Path(image.file_name).with_suffix("").parts)

    def map_name(self, image: Image) -> str:
        """Name of the image's PNG below `panoptic/`."""
        return str(Path(image.file_name).with_suffix(".png"))


def _open_job(run: Run, state: Path, provenance: Mapping[str, Any]) -> _Job:
    prepared = open_prepared(run.data.dataset)
    model_path = paths.model(run.run)
    if not model_path.exists():
        verb = "train" if run.train else "port"
        raise InputError(f"{model_path}: not found; make it first: kmax {verb} {run.run}")
    split = prepared.split(run.data.val_split)
    listed = read_panoptic_json(split.panoptic_json).images
    images = select_images(listed, run.data.val_images, f"{paths.run_file(run.run)}: data.val_images")
    sections = {"predict": run.predict.model_dump(), "data": run.data.model_dump()}
    model_sha256 = sha256(model_path)
    key = digest([sections, run.model.flavour, model_sha256, prepared.digest])
    told = {**provenance, "model_sha256": model_sha256}
    return _Job(run, prepared, images, state / f"predictions-{key[:16]}", told)


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
        _predict_shard(job, first_rank + local_rank, world, torch.device("cuda", local_rank))
    except InputError as error:
        faults.put(error.faults)
        sys.exit(2)


def _predict_shard(job: _Job, rank: int, world: int, device: torch.device) -> None:
    """Predict the unfinished images of one shard."""
    run, finished = job.run, job.finished()
    if len(finished) == len(job.images):
        return
    if finished and rank == 0:
        print(f"predict {run.run}: {len(finished)} of {len(job.images)} images are there", file=sys.stderr)
    model, metadata = load_model(paths.model(run.run))
    _check_categories(metadata, job)
    model.to(device)
    split = job.prepared.split(run.data.val_split)
    truths: dict[ImageId, Annotation] = {
        annotation.image_id: annotation for annotation in read_panoptic_json(split.panoptic_json).annotations
    }
    by_id = {image.id: image for image in job.images}
    pictured = {image.id for image in job.images[: run.predict.pictures]}
    categories = job.prepared.categories
    isthing = torch.tensor([category.isthing for category in categories], device=device)

    def predict() -> Iterator[None]:
        batches = val_batches(
            job.prepared,
            run.data,
            batch_size=run.predict.batch_size,
            shard=rank,
            num_shards=world,
            skip=set(finished),
        )
        for batch in batches:
            results = segment_images(
                model,
                batch.images.to(device),
                batch.content_sizes,
                batch.original_sizes,
                isthing,
                run.predict,
                batch.image_ids,
            )
            for place, (result, assignments) in enumerate(results):
                image = by_id[batch.image_ids[place]]
                if image.id in pictured:
                    draw_pictures(
                        job.pictures(image),
                        split.images_dir / image.file_name,
                        result,
                        assignments,
                        categories,
                        input_size=(batch.images.shape[2], batch.images.shape[3]),
                        content_size=batch.content_sizes[place],
                        truth=(split.panoptic_dir / truths[image.id].file_name, truths[image.id]),
                    )
                write_map(job.work / "panoptic" / job.map_name(image), result.ids)
                annotation = {"image_id": image.id, "file_name": job.map_name(image)}
                write_json(
                    job.segments(image), {**annotation, "segments_info": segments_info(result, categories)}
                )
                yield

    remaining = -(-(len(job.images) - len(finished)) // world)
    for _ in track(predict(), remaining, f"predict {run.run}"):
        pass


def _check_categories(metadata: ModelMetadata, job: _Job) -> None:
    if [c.id for c in metadata.categories] != [c.id for c in job.prepared.categories]:
        path, dataset = paths.model(job.run.run), job.prepared.dataset
        raise InputError(f"{path}: its categories are not those of the dataset '{dataset}'")


def _publish(job: _Job) -> None:
    """Put the finished images where they are declared, once all of them are there."""
    with exclusive_lock(job.work / ".lock", f"{job.work}: another process publishes it", wait=True):
        finished = job.finished()
        if len(finished) < len(job.images):
            return  # the launchers of other shards are still at work; the last one comes here again
        with atomic_folder(paths.predictions(job.run.run)) as folder:
            for name in ("panoptic", "pictures"):
                if (job.work / name).exists():
                    shutil.copytree(job.work / name, folder / name)
            images = [
                {"id": i.id, "file_name": i.file_name, "width": i.width, "height": i.height}
                for i in job.images
            ]
            content = {
                "images": images,
                "categories": [category.model_dump() for category in job.prepared.categories],
                "annotations": [finished[image.id] for image in job.images],
            }
            write_json(folder / "panoptic.json", content)
            write_json(folder / paths.predictions_provenance(job.run.run).name, job.provenance)
