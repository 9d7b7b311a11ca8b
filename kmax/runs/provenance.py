"""The provenance that results record about themselves, compared with the run's parameters.

The metadata of a model contains the digest of its parameters, data and initial weights; predictions record
the model's digest and SHA-256, and scores and speeds copy them. A stage rejects inputs that its
run's parameters would not produce now, because its output would be attributed to parameters that were never
used.
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
CHANGED = "was produced with different parameters, data or initial weights"


def stage_digest(run: Run, stage: str) -> str:
    """Digest of everything except the weights on which a stage's output depends."""
    return files.digest(stage_parameters(run, stage))


def model_provenance(run: Run) -> Provenance:
    """The provenance of the run's model: `digest`, `data_digest`, `weights_digest`, `model_commit`.

    Raises:
        InputError: the model is missing or corrupt.
    """
    path = paths.model(run.run)
    if not path.exists():
        raise InputError(f"{path}: not found; run: {_maker(run)}")
    metadata = read_metadata(path).extra
    digests = {key: str(metadata.get(key, "")) for key in ("digest", "data_digest", "weights_digest")}
    return {**digests, "model_commit": str(metadata.get("commit", ""))}


def model_identity(run: Run) -> Identity:
    """The identity of the run's model, with the data that it was made from, which need not be present.

    Raises:
        InputError: the model is missing, or the run's parameters would now produce another one.
    """
    provenance = model_provenance(run)
    identity = identify(run, data_digest=provenance["data_digest"])
    _require_digest(run, provenance, identity)
    return identity


def require_model(run: Run, identity: Identity) -> Provenance:
    """The provenance of the run's model, if it is the model of `identity`.

    Raises:
        InputError: the model is missing, or it is another one.
    """
    provenance = model_provenance(run)
    _require_digest(run, provenance, identity)
    return provenance


def require_predictions(run: Run, identity: Identity, split: str | None = None) -> Provenance:
    """The provenance of the run's predictions: that of the model, with `model_sha256` and `stage_digest`.

    Args:
        split: of the predicted images; None: the run's val split.

    Raises:
        InputError: they are missing, or the run's parameters would now produce others.
    """
    path = paths.predictions_provenance(run.run, split)
    verb = f"kmax predict {run.run}" + ("" if split is None else f" --split {split}")
    if not path.exists():
        raise InputError(f"{path}: predictions are missing or have no provenance; run: {verb}")
    provenance = _read(path)
    if _is_stale(provenance, run, "predict", identity):
        raise InputError(f"{path.parent}: {CHANGED}; run: {verb}")
    return provenance


def provenance_for_predictions(run: Run) -> tuple[Identity, Provenance]:
    """The run's identity, and the provenance that predictions made now record: model, data, thresholds.

    Raises:
        InputError: the model is missing, or the run's parameters would now produce another one.
    """
    identity = identify(run)
    provenance = require_model(run, identity) | {"data_digest": identity.data_digest}
    return identity, provenance | {"stage_digest": stage_digest(run, "predict")}


def provenance_for_scores(run: Run) -> tuple[Identity, Provenance]:
    """The run's identity, and the provenance that scores made now record: predictions, parameters, commit.

    Raises:
        InputError: the predictions are missing, or the run's parameters would now produce others.
    """
    identity = identify(run)
    provenance = require_predictions(run, identity) | {"stage_digest": stage_digest(run, "evaluate")}
    provenance |= {"parameters_digest": identity.parameters_digest, "commit": identity.commit}
    return identity, provenance


def stale_results(run: Run) -> list[str]:
    """One line for each result that the run would no longer produce; missing results are skipped.

    Raises:
        InputError: a result is corrupt, or the weights are not registered.
    """
    results = list(_results(run))
    data_digests = (
        provenance["data_digest"] for _, _, provenance in results if provenance.get("data_digest")
    )
    is_prepared = paths.prepared_manifest(run.data.dataset).exists()
    identity = identify(run, data_digest=None if is_prepared else next(data_digests, ""))
    model = paths.model(run.run)
    sha256 = files.sha256(model) if model.exists() else None
    faults = []
    for path, stage, provenance in results:
        if _is_stale(provenance, run, stage, identity):
            verb = _maker(run) if path == model else f"kmax {stage} {run.run}"
            faults.append(f"{path}: {CHANGED}; run: {verb}")
        elif path != model and sha256 not in (None, provenance.get("model_sha256")):
            faults.append(f"{path}: was produced with another {model}; run: kmax {stage} {run.run}")
    return faults


def _results(run: Run) -> Iterator[tuple[Path, str, Provenance]]:
    """The existing results: path, stage and provenance."""
    if paths.model(run.run).exists():
        yield paths.model(run.run), "train" if run.train else "port", model_provenance(run)
    if paths.predictions(run.run).exists():
        path = paths.predictions_provenance(run.run)
        yield paths.predictions(run.run), "predict", _read(path) if path.exists() else {}
    for path, stage in ((paths.metrics(run.run), "evaluate"), (paths.speed(run.run), "benchmark")):
        if path.exists():
            provenance = _read(path).get("provenance")
            yield path, stage, provenance if isinstance(provenance, dict) else {}


def _is_stale(provenance: Provenance, run: Run, stage: str, identity: Identity) -> bool:
    """Whether a stage would record another provenance now."""
    expected: Provenance = {"digest": identity.digest}
    if stage in ("predict", "evaluate"):
        expected |= {"data_digest": identity.data_digest, "stage_digest": stage_digest(run, stage)}
    return any(provenance.get(key) != value for key, value in expected.items())


def _require_digest(run: Run, provenance: Provenance, identity: Identity) -> None:
    if provenance["digest"] != identity.digest:
        raise InputError(f"{paths.model(run.run)}: {CHANGED}; run: {_maker(run)}")


def _maker(run: Run) -> str:
    return f"kmax {'train' if run.train else 'port'} {run.run}"


def _read(path: Path) -> Provenance:
    value = files.read_json(path, "result")
    if not isinstance(value, dict):
        raise InputError(f"{path}: corrupt: not a JSON object")
    return value
