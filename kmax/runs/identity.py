"""The identity of a run: digests of everything that determines its weights, and the commit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmax import config, files, paths
from kmax.errors import InputError, unknown_name
from kmax.evaluator_version import VERSION
from kmax.parameter_files import load
from kmax.runs.source_commit import commit
from kmax.runs.weight_digests import expected_sha256


@dataclass(frozen=True)
class Identity:
    """Identity of one run; runs with the same digest have the same weights.

    Attributes:
        run: its name.
        digest: of the sections that determine the weights, of the data and of the initial weights.
        parameters_digest: of all parameters of the run.
        data_digest: of the prepared dataset; empty if a ported run's dataset is not prepared.
        weights_digest: SHA-256 of the initial (or ported) weight file; empty for training from scratch.
        commit: of the project, with `-dirty` if tracked files differ from it.
        state: folder of the run's mutable state.
    """

    run: str
    digest: str
    parameters_digest: str
    data_digest: str
    weights_digest: str
    commit: str
    state: Path


def identify(run: config.Run, data_digest: str | None = None) -> Identity:
    """The identity of `run` with the current data and weights.

    A trained run depends on its data, model and train sections, the prepared data and the initial weights; a
    ported run only on its data, model and port sections and the weight file, so it can be ported before (or
    without) its dataset.

    Args:
        run: parameters.
        data_digest: digest of the run's data; None: read it from the prepared dataset.

    Raises:
        InputError: the dataset of a trained run is not prepared, or the SHA-256 of its weights is unknown.
    """
    parameters = run.model_dump(mode="json")
    trained = run.train is not None
    if data_digest is None:
        data_digest = _data_digest(run.data.dataset, required=trained)
    weights_digest = _weights_digest(run.initial_weights) if run.initial_weights else ""
    sections = ("data", "model", "train" if trained else "port")
    digest = files.digest(
        [
            {section: parameters[section] for section in sections},
            data_digest if trained else "",
            weights_digest,
        ]
    )
    return Identity(
        run=run.run,
        digest=digest,
        parameters_digest=files.digest(parameters),
        data_digest=data_digest,
        weights_digest=weights_digest,
        commit=commit(),
        state=paths.state(run.run, digest),
    )


def stage_parameters(run: config.Run, stage: str) -> dict[str, Any]:
    """Everything except the weights on which a stage's output depends: sections of the run, the evaluator."""
    sections = {"predict": ("predict",), "evaluate": ("predict", "evaluate")}.get(stage, ())
    parameters = {name: getattr(run, name).model_dump(mode="json") for name in sections}
    return parameters | ({"evaluator": {"version": VERSION}} if stage == "evaluate" else {})


def _data_digest(dataset: str, required: bool) -> str:
    manifest = paths.prepared_manifest(dataset)
    if not manifest.exists():
        if required:
            raise InputError(f"{manifest}: the dataset is not prepared; run: kmax data prepare {dataset}")
        return ""
    value = files.read_json(manifest, "manifest of the prepared dataset")
    digest = value.get("digest") if isinstance(value, dict) else None
    if not isinstance(digest, str):
        raise InputError(f"{manifest}: no 'digest'; run: kmax data prepare {dataset}")
    return digest


def _weights_digest(name: str) -> str:
    registry = load(config.WeightsFile, paths.WEIGHTS_FILE).weights
    if name not in registry:
        raise unknown_name("weights", name, registry, str(paths.WEIGHTS_FILE))
    digest = expected_sha256(name, registry[name])
    if digest is None:
        raise InputError(f"weights '{name}': SHA-256 unknown; run: kmax weights fetch {name}")
    return digest
