"""The declared outputs of a training, put in place by rename when it is complete."""

from __future__ import annotations

from kmax import config, files, paths
from kmax.model.io import save_model
from kmax.model.kmax import KMaX
from kmax.tracking.identity import Identity
from kmax.training.checkpoint import remove_leftovers
from kmax.training.history import History


def publish(
    run: config.Run, identity: Identity, model: KMaX, categories: list[config.Category], history: History
) -> None:
    """Write `reports/metrics/R/history.csv` and `results/R/model.safetensors`.

    The model keeps the thresholds that the run has now, for pictures of one's own: the predict stage reads
    the run file, and a change of the thresholds alone makes no other model. A lock of the run keeps the two
    files together where trainings with other parameters or data end at the same time.

    Raises:
        InputError: they cannot be written; the training's state stays, and the next call publishes it.
    """
    lock = paths.STATE / f"{run.run}.lock"
    with files.exclusive_lock(lock, f"{lock}: another training of this run publishes", wait=True):
        for path in (paths.history(run.run), paths.model(run.run)):
            remove_leftovers(path.parent, path.name)
        files.write_text(paths.history(run.run), history.csv())
        save_model(
            model,
            paths.model(run.run),
            categories,
            run=identity.run,
            digest=identity.digest,
            data_digest=identity.data_digest,
            weights_digest=identity.weights_digest,
            commit=identity.commit,
            predict=run.predict.model_dump(),
        )
