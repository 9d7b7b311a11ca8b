"""Publishing the declared outputs of a complete training, by rename."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from kmax import config, files, paths
from kmax.errors import InputError
from kmax.model.io import load_model, save_model
from kmax.model.kmax import KMaX
from kmax.runs.identity import Identity
from kmax.training.training_log import History


def publish(
    run: config.Run, identity: Identity, model: KMaX, categories: list[config.Category], history: History
) -> None:
    """Write `reports/metrics/R/history.csv` and `results/R/model.safetensors`, unless they are up to date.

    The model's metadata holds the run's present thresholds and preprocessing for `kmax predict-images`. The
    predict stage reads the run's parameters instead, so changed thresholds do not require another model. An
    up-to-date file keeps its time, by which the engines compare it with predictions, and the commit that made
    it. A lock on the run keeps the two files consistent when trainings with other parameters or data end at
    the same time.

    Raises:
        InputError: they cannot be written; the training's state remains, and the next call publishes it.
    """
    lock = paths.STATE / f"{run.run}.lock"
    with files.exclusive_lock(
        lock, f"{lock}: another training of this run is publishing its results", wait=True
    ):
        for path in (paths.history(run.run), paths.model(run.run)):
            files.remove_leftovers(path.parent, path.name)
        text = history.csv()
        if not _is_text(paths.history(run.run), text):
            files.write_text(paths.history(run.run), text)
        provenance = {
            "run": identity.run,
            "digest": identity.digest,
            "data_digest": identity.data_digest,
            "weights_digest": identity.weights_digest,
            "predict": run.predict.model_dump(mode="json"),
            "data": run.data.preprocessing_alone().model_dump(mode="json"),
        }
        if not _is_model(paths.model(run.run), model, categories, provenance):
            save_model(model, paths.model(run.run), categories, **provenance, commit=identity.commit)


def _is_text(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()


def _is_model(path: Path, model: KMaX, categories: list[config.Category], provenance: dict[str, Any]) -> bool:
    """Whether `path` holds this model; the commit may differ."""
    if not path.is_file():
        return False
    try:
        existing, metadata = load_model(path)
    except InputError:  # corrupt: it will be replaced
        return False
    extra = {key: value for key, value in metadata.extra.items() if key != "commit"}
    if (existing.arguments, metadata.categories, extra) != (model.arguments, categories, provenance):
        return False
    tensors = existing.state_dict()
    return all(torch.equal(tensors[name], tensor.cpu()) for name, tensor in model.state_dict().items())
