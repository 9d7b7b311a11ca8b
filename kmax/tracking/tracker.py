"""Tracking a stage: events on disk, and a mirror process that sends them to MLflow."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from kmax import config, files, paths
from kmax.errors import InputError, OutOfTimeError
from kmax.machine import launcher
from kmax.runs.identity import Identity, identify, stage_parameters
from kmax.runs.source_commit import warn_if_unknown
from kmax.tracking import events

Stage = Literal["train", "port", "predict", "evaluate", "benchmark"]
MIRROR_CLOSE_SECONDS = 60.0
MIRROR_STOP_SECONDS = 4.0  # the same for a stage that failed or was stopped
MAX_PICTURES = 24


class Tracker:
    """Records one attempt of a stage: every call appends one event. Created by `track`.

    Args:
        identity: of the run; its state folder holds the events.
        stage: the stage.
        child: name of the MLflow child run: the stage, with a digest of the stage's own parameters, if any.
    """

    def __init__(self, identity: Identity, stage: str, child: str) -> None:
        self.identity = identity
        self.stage = stage
        self.child = child
        self.attempt = uuid.uuid4().hex
        self.path = identity.state / events.FILE_NAME

    def metrics(self, values: Mapping[str, float], step: int = 0, headline: bool = False) -> None:
        """Log scalars at a training step (0 for results); `headline` logs them to the parent run too."""
        encoded = {name: events.encode_number(value) for name, value in values.items()}
        self._append("metrics", values=encoded, step=int(step), headline=headline)

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Log parameters that are known only at run time (device, ranks, derived batch)."""
        self._append("parameters", values=events.flatten_parameters(values))

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags; a later value replaces an earlier one."""
        self._append("tags", values={key: str(value) for key, value in values.items()})

    def dataset(self, name: str, digest: str, context: str = "") -> None:
        """Log a dataset that the stage reads, by its digest; `context` is its use (default: the stage)."""
        self._append("dataset", name=name, digest=digest, context=context or self.stage)

    def picture(self, path: Path, folder: str = "pictures") -> None:
        """Log a picture as an artifact."""
        self.artifact(path, folder)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Log a small file as an artifact; its hash prevents a later file of that name from being sent."""
        self._append("artifact", path=str(path), folder=folder, sha256=files.sha256(path))

    def record(self, path: Path, prefix: str = "") -> None:
        """Log a JSON result: the file as an artifact, its numbers as metrics, its texts as tags."""
        numbers, texts = events.flatten(files.read_json(path, "result"))
        place = f"{prefix}/" if prefix else ""
        headline = {place + name: value for name, value in numbers.items() if "/per_" not in name}
        detail = {place + name: value for name, value in numbers.items() if "/per_" in name}
        self.metrics(headline, headline=True)
        if detail:
            self.metrics(detail)
        self.tags({f"text/{place}{name}": text for name, text in texts.items() if "/per_" not in name})
        self.artifact(path)

    def weights(self, path: Path) -> None:
        """Log a weight file by path and hash; it is never copied to the tracking store."""
        self._append("weights", path=str(path), sha256=files.sha256(path))

    def _append(self, kind: str, **fields: Any) -> None:
        event = {"stage": self.stage, "child": self.child, "attempt": self.attempt, "kind": kind, **fields}
        events.append(self.path, event)


class SilentTracker(Tracker):
    """The tracker of ranks other than 0: it records nothing."""

    def _append(self, kind: str, **fields: Any) -> None:
        pass

    def artifact(self, path: Path, folder: str = "") -> None:
        """Nothing."""

    def record(self, path: Path, prefix: str = "") -> None:
        """Nothing."""

    def weights(self, path: Path) -> None:
        """Nothing."""


@contextlib.contextmanager
def track(run: config.Run, stage: Stage, *, identity: Identity | None = None) -> Iterator[Tracker]:
    """Track one attempt of a stage: its start, what the tracker logs, its outputs, and how it ended.

    On success the stage's declared outputs are recorded. Another process sends the events to MLflow, so no
    call here waits for a database or a network; leaving the context waits for that process for a bounded
    time. Only rank 0 records.
    """
    identity = identity or identify(run)
    own = stage_parameters(run, stage)
    child = f"{stage}-{files.digest(own)[:8]}" if own else stage
    if launcher()[0] != 0:
        yield SilentTracker(identity, stage, child)
        return
    tracker = Tracker(identity, stage, child)
    warn_if_unknown()
    tracker._append("start", **_introduction(run, identity, own))
    if identity.data_digest and stage != "benchmark":  # a benchmark measures a generated picture
        tracker.dataset(run.data.dataset, identity.data_digest)
    mirror = _start_mirror(identity.state, stage, child)
    status = "FAILED"
    try:
        yield tracker
        _record_outputs(tracker)
        status = "FINISHED"
    except OutOfTimeError:
        status = "SCHEDULED"
        raise
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C; SIGTERM, which unwinds as an exit
        status = "KILLED"
        raise
    finally:
        try:
            tracker._append("end", status=status)
        except InputError as error:
            if status == "FINISHED":
                raise
            # The stage's own error decides its exit code; a full disk must not hide it.
            print(f"warning: the end of this stage could not be recorded: {error}", file=sys.stderr)
        finally:
            seconds = MIRROR_CLOSE_SECONDS if status == "FINISHED" else MIRROR_STOP_SECONDS
            _close_mirror(mirror, identity.state, seconds)


def _record_outputs(tracker: Tracker) -> None:
    """Record the declared outputs of the tracker's stage: numbers, pictures, and weights by reference."""
    run = tracker.identity.run
    match tracker.stage:
        case "train":
            if paths.model(run).exists():
                tracker.weights(paths.model(run))
            if paths.history(run).exists():
                tracker.artifact(paths.history(run))
        case "port":
            if paths.model(run).exists():
                tracker.weights(paths.model(run))
            if paths.port_report(run).exists():
                tracker.artifact(paths.port_report(run))
        case "predict":
            folder = paths.predictions(run) / "pictures"
            for picture in sorted(folder.glob("*/*.png"))[:MAX_PICTURES]:
                tracker.picture(picture, f"pictures/{picture.parent.name}")
        case "evaluate":
            if paths.metrics(run).exists():
                tracker.record(paths.metrics(run))
            if paths.per_class(run).exists():
                tracker.artifact(paths.per_class(run))
        case "benchmark":
            if paths.speed(run).exists():
                tracker.record(paths.speed(run), prefix="speed")


def _introduction(run: config.Run, identity: Identity, own: dict[str, Any]) -> dict[str, Any]:
    """The fields of a start event: all that a mirror needs to create the parent and child runs."""
    parameters = run.model_dump(mode="json", exclude={"run", "description", "predict", "evaluate"})
    return {
        "run": identity.run,
        "digest": identity.digest,
        "description": run.description,
        "parameters": events.flatten_parameters({k: v for k, v in parameters.items() if v is not None}),
        "stage_parameters": events.flatten_parameters(own),
        "identity": {
            "parameters_digest": identity.parameters_digest,
            "data_digest": identity.data_digest,
            "weights_digest": identity.weights_digest,
            "commit": identity.commit,
        },
    }


def mirror_wanted() -> bool:
    """Whether events are sent to MLflow: it is installed, and KMAX_TRACKING is not `off`."""
    return os.environ.get("KMAX_TRACKING") != "off" and importlib.util.find_spec("mlflow") is not None


def _start_mirror(state: Path, stage: str, child: str) -> subprocess.Popen[bytes] | None:
    if not mirror_wanted():
        return None
    command = [sys.executable, "-m", "kmax.tracking.mirror_process", str(state), stage, child]
    command.append(str(os.getpid()))
    # In its own session, so that Ctrl-C reaches only the stage; the end of the stage closes the mirror's
    # input.
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)


def _close_mirror(mirror: subprocess.Popen[bytes] | None, state: Path, seconds: float) -> None:
    """Give the mirror a bounded time to send the rest; `kmax track sync` sends what remains."""
    if mirror is None:
        return
    if mirror.stdin:
        mirror.stdin.close()
    try:
        mirror.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        mirror.kill()
        mirror.wait()
        advice = "send them with: kmax track sync"
        print(
            f"warning: tracking is slow; events are kept in {state / events.FILE_NAME}; {advice}",
            file=sys.stderr,
        )
