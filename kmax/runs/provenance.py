"""What made a file, as the file itself tells, held against the run file.

A model tells in its metadata which digest it was made of; predictions tell the model's digest and SHA-256,
and scores and speeds carry these on. No stage goes on from what its run file would not make now: else its
output would be told to be of parameters that were never used.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kmax import files, paths
from kmax.config import Run
from kmax.errors import InputError
from kmax.model.io import read_metadata
from kmax.runs.identity import Identity, identify, stage_parameters

Provenance = dict[str, Any]
CHANGED = "was made with other parameters, data or initial weights than those of now"


def stage_digest(run: Run, stage: str) -> str:
    """Digest of what a stage's output depends on beside the weights."""
    return files.digest(stage_parameters(run, stage))


def model_provenance(run: Run) -> Provenance:
    """What the run's model tells: `digest`, `data_digest`, `weights_digest`, `model_commit`.

    Raises:
        InputError: there is no model, or it is damaged.
    """
    path = paths.model(run.run)
    if not path.exists():
        raise InputError(f"{path}: not found; make it first: {_maker(run)}")
    told = read_metadata(path).extra
    known = {key: str(told.get(key, "")) for key in ("digest", "data_digest", "weights_digest")}
    return {**known, "model_commit": str(told.get("commit", ""))}


def model_identity(run: Run) -> Identity:
    """The identity of the run's model, with the data that it was made of, which need not be here.

    Raises:
        InputError: there is no model, or the run file would make another one now.
    """
    told = model_provenance(run)
    identity = identify(run, data_digest=told["data_digest"])
    _require_digest(run, told, identity)
    return identity


def require_model(run: Run, identity: Identity) -> Provenance:
    """What the run's model tells, if it is the model of `identity`.

    Raises:
        InputError: there is no model, or it is another one.
    """
    told = model_provenance(run)
    _require_digest(run, told, identity)
    return told


def require_predictions(run: Run, identity: Identity, split: str | None = None) -> Provenance:
    """What the run's predictions tell: as the model does, and `model_sha256`, `stage_digest`.

    Args:
        split: on which they are; None: the run's val split.

    Raises:
        InputError: there are none, or they were made otherwise than the run file says now.
    """
    path = paths.predictions_provenance(run.run, split)
    verb = f"kmax predict {run.run}" + ("" if split is None else f" --split {split}")
    if not path.exists():
        raise InputError(f"{path}: no predictions, or of unknown origin; make them: {verb}")
    told = _read(path)
    if _differs(told, run, "predict", identity):
        raise InputError(f"{path.parent}: {CHANGED}; make it again: {verb}")
    return told


def stale_results(run: Run) -> list[str]:
    """One line for each result of the run that the run file would not make now; absent ones are passed over.

    Raises:
        InputError: a result is damaged, or the weights are not registered.
    """
    results = list(_results(run))
    told_data = [told["data_digest"] for _, _, told in results if told.get("data_digest")]
    is_prepared = paths.prepared_manifest(run.data.dataset).exists()
    identity = identify(run, data_digest=None if is_prepared else next(iter(told_data), ""))
    model = paths.model(run.run)
    sha256 = files.sha256(model) if model.exists() else None
    faults = []
    for path, stage, told in results:
        if _differs(told, run, stage, identity):
            verb = _maker(run) if path == model else f"kmax {stage} {run.run}"
            faults.append(f"{path}: {CHANGED}; make it again: {verb}")
        elif path != model and sha256 not in (None, told.get("model_sha256")):
            faults.append(f"{path}: was made with another {model}; make it again: kmax {stage} {run.run}")
    return faults


def _results(run: Run) -> Iterator[tuple[Path, str, Provenance]]:
    """The results that are there: path, stage, and what they tell."""
    if paths.model(run.run).exists():
        yield paths.model(run.run), "train" if run.train else "port", model_provenance(run)
    if paths.predictions(run.run).exists():
        path = paths.predictions_provenance(run.run)
        yield paths.predictions(run.run), "predict", _read(path) if path.exists() else {}
    for path, stage in ((paths.metrics(run.run), "evaluate"), (paths.speed(run.run), "benchmark")):
        if path.exists():
            told = _read(path).get("provenance")
            yield path, stage, told if isinstance(told, dict) else {}


def _differs(told: Provenance, run: Run, stage: str, identity: Identity) -> bool:
    """Whether a stage would tell something else now."""
    wanted: Provenance = {"digest": identity.digest}
    if stage in ("predict", "evaluate"):
        wanted |= {"data_digest": identity.data_digest, "stage_digest": stage_digest(run, stage)}
    return any(told.get(key) != value for key, value in wanted.items())


def _require_digest(run: Run, told: Provenance, identity: Identity) -> None:
    if told["digest"] != identity.digest:
        raise InputError(f"{paths.model(run.run)}: {CHANGED}; make it again: {_maker(run)}")


def _maker(run: Run) -> str:
    return f"kmax {'train' if run.train else 'port'} {run.run}"


def _read(path: Path) -> Provenance:
    value = files.read_json(path, "result")
    if not isinstance(value, dict):
        raise InputError(f"{path}: damaged: no JSON object")
    return value
