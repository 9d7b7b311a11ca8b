"""Replays event logs into MLflow.

Replaying is idempotent: runs are looked up by tags before they are created, metrics carry the time of their
event (a store keeps one value per name, time and step), tags and artifacts overwrite themselves. It can
therefore start again from the beginning when its notes (`mlflow-<store>.json` beside the events) are lost,
and several processes may call it: one lock per event log and, for an embedded store, one per store serialise
them. So only one process initialises the store.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kmax import files
from kmax.display import printable
from kmax.errors import InputError
from kmax.tracking import events
from kmax.tracking.events import artifact_folder, metric_name
from kmax.urls import has_credentials, without_credentials

EXPERIMENT = "kmax"
ARTIFACTS = Path("mlartifacts")
DEFAULT_STORE = Path("mlflow.db")
PARENT = "parent"
MAX_METRICS, MAX_PARAMETERS, MAX_TAGS = 1000, 100, 100
DATASET_DIGEST_LENGTH = 36
SWITCHES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


def tracking_uri() -> str:
    """URI of the store: MLFLOW_TRACKING_URI, else an SQLite file in the project folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DEFAULT_STORE.resolve()}"


def require_mlflow() -> None:
    """Raise `InputError` if MLflow is not installed."""
    if importlib.util.find_spec("mlflow") is None:
        raise InputError('mlflow is not installed; install it with: pip install ".[engines]"')


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Import MLflow in this context: no telemetry, no log output, short timeouts for an absent server."""
    os.environ.update(SWITCHES)
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


@dataclass
class Notes:
    """What was sent to one store so far: ids of the runs, and the offset in the event log.

    Attributes:
        uri: of the store, without user and password.
    """

    uri: str
    runs: dict[str, str] = field(default_factory=dict)
    offset: int = 0


@dataclass
class _Batch:
    """Everything to be logged to one MLflow run."""

    metrics: list[Any] = field(default_factory=list)
    parameters: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    status: tuple[str, int] | None = None


class Mirror:
    """A connection to one MLflow store. Any failure of the store raises MLflow's or the network's exception.

    Args:
        uri: of the store.

    Attributes:
        skipped: files that no replay could send because they are missing or have changed.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        with quiet_import():
            from mlflow.tracking import MlflowClient
        self.skipped: list[str] = []
        self._client: Any = None
        self._client_type = MlflowClient
        self._experiment = ""

    def replay(self, state: Path) -> int:
        """Send the events of `state` that the store lacks; returns their number."""
        with (
            files.exclusive_lock(state / "mirror.lock", "", wait=True),
            self._store_lock(),
        ):
            self._connect()
            replay = _Replay(self, state)
            count = replay.run()
        self.skipped += replay.skipped
        return count

    def latest(self, run: str, stage: str) -> Any | None:
        """The MLflow run of the latest finished attempt of a stage of `run`, or None."""
        with self._store_lock():
            self._connect()
        found = self._client.search_runs(
            [self._experiment],
            filter_string=f"tags.`kmax.run` = '{run}' and tags.`kmax.stage` = '{stage}' "
            "and attributes.status = 'FINISHED'",
            order_by=["attributes.end_time DESC"],
            max_results=1,
        )
        return found[0] if found else None

    @contextlib.contextmanager
    def _store_lock(self) -> Iterator[None]:
        """One writer at a time for an embedded store: SQLite fails with two creators or two writers."""
        database = re.match(r"sqlite:///([^?]+)", self.uri)
        if database is None:
            yield
            return
        lock = Path(database[1] + ".lock")
        with files.exclusive_lock(lock, "", wait=True):
            yield

    def _connect(self) -> None:
        if self._client is not None:
            return
        client = self._client_type(self.uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            self._experiment = experiment.experiment_id
        else:
            embedded = self.uri.startswith("sqlite:")
            place = ARTIFACTS.resolve().as_uri() if embedded else None
            self._experiment = client.create_experiment(name, artifact_location=place)
        self._client = client


def _notes_path(state: Path, uri: str) -> Path:
    """The file of notes for a store, by its URI without credentials: they do not identify the store."""
    return state / f"mlflow-{hashlib.sha256(uri.encode()).hexdigest()[:12]}.json"


def _remove_credentials(state: Path) -> None:
    """Rewrite the notes of earlier releases that contain the credentials of a store."""
    for path in state.glob("mlflow-*.json"):
        notes = files.read_json(path, "notes of the mirror")
        if has_credentials(notes["uri"]):
            uri = without_credentials(notes["uri"])
            renamed = _notes_path(state, uri)
            if not renamed.exists():
                files.write_json(renamed, notes | {"uri": uri})
            path.unlink()


class _Replay:
    """One replay of one event log."""

    def __init__(self, mirror: Mirror, state: Path) -> None:
        self.mirror = mirror
        self.client = mirror._client
        self.experiment = mirror._experiment
        self.state = state
        self.run_name = state.parent.name
        self.tag = f"{state.parent.name}/{state.name}"
        self.uri = without_credentials(mirror.uri)
        self.notes_path = _notes_path(state, self.uri)
        self.batches: dict[str, _Batch] = {}
        self.skipped: list[str] = []

    def run(self) -> int:
        _remove_credentials(self.state)
        self.notes = self._read_notes()
        count, offset = 0, self.notes.offset
        for event, offset in events.read(self.state / events.FILE_NAME, self.notes.offset):  # noqa: B007
            self._take(event)
            count += 1
        if not count:
            return 0
        for run_id, batch in self.batches.items():
            self._send(run_id, batch)
        self.notes.offset = offset
        files.write_json(self.notes_path, asdict(self.notes))
        return count

    def _read_notes(self) -> Notes:
        """The notes; new ones if they are missing or the store has lost the runs."""
        from mlflow.exceptions import MlflowException

        if not self.notes_path.exists():
            return Notes(self.uri)
        notes = Notes(**files.read_json(self.notes_path, "notes of the mirror"))
        try:
            runs = [self.client.get_run(run_id) for run_id in notes.runs.values()]
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return Notes(self.uri)
            raise
        active = all(run.info.lifecycle_stage == "active" for run in runs)
        return notes if active else Notes(self.uri)

    def _run_id(self, child: str, event: events.Event) -> str:
        """The MLflow run of a child (or of the parent): from the notes, found by its tags, or created."""
        if child in self.notes.runs:
            return self.notes.runs[child]
        found = self.client.search_runs(
            [self.experiment],
            filter_string=f"tags.`kmax.identity` = '{self.tag}' and tags.`kmax.child` = '{child}'",
            max_results=1,
        )
        if found:
            run_id: str = found[0].info.run_id
        else:
            tags = {"kmax.run": self.run_name, "kmax.identity": self.tag, "kmax.child": child}
            name = self.run_name
            if child != PARENT:
                tags |= {"kmax.stage": event["stage"], "mlflow.parentRunId": self._run_id(PARENT, event)}
                tags |= {"mlflow.source.name": f"kmax {event['stage']} {self.run_name}"}
                name = f"{self.run_name}/{event['stage']}"
            created = self.client.create_run(
                self.experiment, start_time=event["time"], tags=tags, run_name=name
            )
            run_id = created.info.run_id
        self.notes.runs[child] = run_id
        return run_id

    def _take(self, event: events.Event) -> None:
        """Sort one event into the batches of its child run and of the parent."""
        child_id = self._run_id(event["child"], event)
        child = self.batches.setdefault(child_id, _Batch())
        parent = self.batches.setdefault(self._run_id(PARENT, event), _Batch())
        match event["kind"]:
            case "start":
                tags = {f"kmax.{key}": value for key, value in event["identity"].items() if value}
                tags |= {
                    "mlflow.source.git.commit": event["identity"]["commit"],
                    "kmax.digest": event["digest"],
                }
                parent.tags |= tags | {"mlflow.note.content": event["description"]}
                child.tags |= tags
                parent.parameters |= _texts(event["parameters"])
                child.parameters |= _texts(event["stage_parameters"])
                child.status = parent.status = ("RUNNING", event["time"])
            case "metrics":
                metrics = self._metrics(event)
                child.metrics += metrics
                if event.get("headline"):
                    parent.metrics += metrics
            case "parameters":
                child.parameters |= _texts(event["values"])
            case "tags":
                child.tags |= event["values"]
            case "dataset":
                self._log_dataset(child_id, event)
                self._log_dataset(self.notes.runs[PARENT], event)
            case "artifact":
                self._log_artifact(child_id, event)
            case "weights":
                tags = {"weights.path": event["path"], "weights.sha256": event["sha256"]}
                child.tags |= tags
                parent.tags |= tags
                self._refer_to_weights(child_id, event)
            case "end":
                child.status = parent.status = (event["status"], event["time"])

    def _metrics(self, event: events.Event) -> list[Any]:
        from mlflow.entities import Metric

        return [
            Metric(metric_name(name), float(value), event["time"], event["step"])
            for name, value in event["values"].items()
        ]

    def _send(self, run_id: str, batch: _Batch) -> None:
        from mlflow.entities import Param, RunTag

        self._settle_parameters(run_id, batch)
        for i in range(0, len(batch.metrics), MAX_METRICS):
            self.client.log_batch(run_id, metrics=batch.metrics[i : i + MAX_METRICS])
        parameters = [Param(key, value) for key, value in batch.parameters.items()]
        for i in range(0, len(parameters), MAX_PARAMETERS):
            self.client.log_batch(run_id, params=parameters[i : i + MAX_PARAMETERS])
        tags = [RunTag(key, value) for key, value in _texts(batch.tags).items() if value]
        for i in range(0, len(tags), MAX_TAGS):
            self.client.log_batch(run_id, tags=tags[i : i + MAX_TAGS])
        match batch.status:
            case ("RUNNING" | "SCHEDULED" as status, _):
                self.client.update_run(run_id, status=status)
            case (status, time):
                self.client.set_terminated(run_id, status=status, end_time=time)

    def _settle_parameters(self, run_id: str, batch: _Batch) -> None:
        """MLflow's parameters are final; a resumed stage with other values (ranks) logs them as tags."""
        if not batch.parameters:
            return
        known = self.client.get_run(run_id).data.params
        for key in [key for key in batch.parameters if key in known]:
            value = batch.parameters.pop(key)
            if known[key] != value[: len(known[key])]:
                batch.tags[f"parameter/{key}"] = value

    def _log_dataset(self, run_id: str, event: events.Event) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        digest = event["digest"][:DATASET_DIGEST_LENGTH]
        source = f'{{"path": "data/prepared/{event["name"]}", "sha256": "{event["digest"]}"}}'
        dataset = Dataset(name=event["name"], digest=digest, source_type="local", source=source)
        context = InputTag(key="mlflow.data.context", value=event["context"])
        self.client.log_inputs(run_id, datasets=[DatasetInput(dataset, tags=[context])])

    def _log_artifact(self, run_id: str, event: events.Event) -> None:
        """Send a file, unless it has been replaced since."""
        path = Path(event["path"])
        if path.is_file() and files.sha256(path) == event["sha256"]:
            self.client.log_artifact(run_id, str(path), artifact_folder(event["folder"]) or None)
        else:
            self.skipped.append(f"{path}: missing or changed since {event['stage']} logged it")

    def _refer_to_weights(self, run_id: str, event: events.Event) -> None:
        """Register an external model: path and hash, no copy."""
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus

        name = re.sub(r"[/:.%\"']", "_", self.run_name)
        known = self.client.search_logged_models(
            [self.experiment], filter_string=f"source_run_id = '{run_id}'"
        )
        if any(model.tags.get("sha256") == event["sha256"] for model in known):
            return
        tags = {"mlflow.model.isExternal": "true", "path": event["path"], "sha256": event["sha256"]}
        model = self.client.create_logged_model(self.experiment, name=name, source_run_id=run_id, tags=tags)
        self.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        self.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])


def _texts(values: Mapping[str, str]) -> dict[str, str]:
    """Parameters or tags by names that MLflow accepts; databases refuse NUL and lone surrogates."""
    return {metric_name(key): printable(value, keep="\n\t") for key, value in values.items()}
