"""The declared outputs of a training, put in place by rename when it is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from kmax import config, files, paths
from kmax.errors import InputError
from kmax.model.io import load_model, save_model
from kmax.model.kmax import KMaX
from kmax.runs.identity import Identity
from kmax.training.history import History


def publish(
    run: config.Run, identity: Identity, model: KMaX, categories: list[config.Category], history: History
) -> None:
    """Write `reports/metrics/R/history.csv` and `results/R/model.safetensors`, unless they are there already.

    The model keeps the thresholds and the preprocessing that the run has now, for pictures of one's own: the
    predict stage reads the run file, and a change of the thresholds alone makes no other model. What is there
    already keeps its time, by which the engines tell whether predictions are older than their model, and the
    commit that made it. A lock of the run keeps the two files together where trainings with other parameters
    or data end at the same time.

    Raises:
        InputError: they cannot be written; the training's state stays, and the next call publishes it.
    """
    lock = paths.STATE / f"{run.run}.lock"
    with files.exclusive_lock(lock, f"{lock}: another training of this run publishes", wait=True):
        for path in (paths.history(run.run), paths.model(run.run)):
            files.remove_leftovers(path.parent, path.name)
        text = history.csv()
        if not _is_text(paths.history(run.run), text):
            files.write_text(paths.history(run.run), text)
        told = {
            "run": identity.run,
            "digest": identity.digest,
            "data_digest": identity.data_digest,
            "weights_digest": identity.weights_digest,
            "predict": run.predict.model_dump(mode="json"),
            "data": run.data.preprocessing_alone().model_dump(mode="json"),
        }
        if not _is_model(paths.model(run.run), model, categories, told):
            save_model(model, paths.model(run.run), categories, **told, commit=identity.commit)


def _is_text(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()


def _is_model(path: Path, model: KMaX, categories: list[config.Category], told: dict[str, Any]) -> bool:
    """Whether `path` holds this model, of whatever commit."""
    if not path.is_file():
        return False
    try:
        there, metadata = load_model(path)
    except InputError:  # damaged: written anew
        return False
    extra = {key: value for key, value in metadata.extra.items() if key != "commit"}
    if (there.arguments, metadata.categories, extra) != (model.arguments, categories, told):
        return False
    tensors = there.state_dict()
    return all(torch.equal(tensors[name], tensor.cpu()) for name, tensor in model.state_dict().items())
