import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kmax.errors import InputError, OutOfTimeError
from kmax.runs.identity import identify
from kmax.tracking import events
from kmax.tracking.mlflow_mirror import tracking_uri
from kmax.tracking.mlflow_store import sync
from kmax.tracking.tracker import track

pytest.importorskip("mlflow")

UNKNOWN_COMMIT = "the commit of this folder"  # of a project outside of git, which is reported


def logged(run) -> list[dict]:
    return [event for event, _ in events.read(identify(run).state / events.FILE_NAME)]


def client():
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri())


def tracked_runs() -> dict:
    found = client().search_runs([client().get_experiment_by_name("kmax").experiment_id])
    assert len({run.info.run_name for run in found}) == len(found), "a run was made twice"
    return {run.info.run_name: run for run in found}


@pytest.fixture
def offline(monkeypatch) -> None:
    """Events only; tests replay them in this process."""
    monkeypatch.setenv("KMAX_TRACKING", "off")


@pytest.fixture
def store(project, empty_store) -> Path:
    return Path(shutil.copy(empty_store, project / "mlflow.db"))


def test_events_record_a_stage_from_start_to_end_without_mlflow(run, offline):
    with track(run, "train") as tracker:
        tracker.metrics({"loss/total": 1.5}, step=10)
    kinds = [event["kind"] for event in logged(run)]
    assert kinds == ["start", "dataset", "metrics", "end"]
    assert logged(run)[-1]["status"] == "FINISHED"
    assert not Path("mlflow.db").exists()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OutOfTimeError, "SCHEDULED"),
        (KeyboardInterrupt, "KILLED"),
        (SystemExit(143), "KILLED"),
        (ValueError, "FAILED"),
    ],
)
def test_the_end_of_a_stage_is_recorded(run, offline, error, status):
    kind = error if isinstance(error, type) else type(error)
    with pytest.raises(kind), track(run, "train"):
        raise error
    assert logged(run)[-1]["status"] == status


def fail(log: Path, error: type[BaseException] | None = None) -> None:
    """From here on no event can be written to `log`."""
    log.unlink()
    log.mkdir()
    if error:
        raise error


@pytest.mark.parametrize("error", [OutOfTimeError, KeyboardInterrupt, ValueError])
def test_a_log_that_cannot_be_written_does_not_hide_how_a_stage_ended(run, offline, capsys, error):
    log = identify(run).state / events.FILE_NAME
    with pytest.raises(error), track(run, "train"):
        fail(log, error)
    assert f"could not be recorded: {log}" in capsys.readouterr().err


def test_a_finished_stage_whose_end_cannot_be_recorded_warns_and_ends_its_mirror(run, monkeypatch):
    log = identify(run).state / events.FILE_NAME
    mirror = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    monkeypatch.setattr("kmax.tracking.tracker._start_mirror", lambda *_: mirror)
    with pytest.raises(InputError, match=r"events\.jsonl: cannot be written"), track(run, "train"):
        fail(log)
    assert mirror.poll() == 0


def test_only_rank_0_records(run, offline, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with track(run, "train") as tracker:
        tracker.metrics({"loss/total": 1.0}, step=1)
        tracker.picture(Path("absent.png"))
    assert logged(run) == []


def test_a_resumed_training_continues_its_runs_and_replaying_changes_nothing(run, offline, store):
    for steps in (range(0, 3), range(3, 6)):
        with track(run, "train") as tracker:
            tracker.parameters({"ranks": steps.start + 1})
            for step in steps:
                tracker.metrics({"loss/total": 1.0 / (step + 1), "odd@(name)^": 0.0}, step=step)
        sync()
    state = identify(run).state
    for note in state.glob("mlflow-*.json"):
        note.unlink()
    sync()
    runs = tracked_runs()
    assert set(runs) == {"shapes-smoke", "shapes-smoke/train"}
    history = client().get_metric_history(runs["shapes-smoke/train"].info.run_id, "loss/total")
    assert [(m.step, m.value) for m in history] == [(step, 1.0 / (step + 1)) for step in range(6)]
    assert "odd__name__" in runs["shapes-smoke/train"].data.metrics
    assert runs["shapes-smoke/train"].data.params["ranks"] == "1"
    assert runs["shapes-smoke/train"].data.tags["parameter/ranks"] == "4"


def test_a_run_carries_parameters_data_and_provenance(run, offline, store, project):
    picture = project / "p.png"
    picture.write_bytes(b"png")
    weights = project / "w.safetensors"
    weights.write_bytes(b"weights")
    with track(run, "predict") as tracker:
        tracker.picture(picture)
        tracker.weights(weights)
    sync()
    identity, runs = identify(run), tracked_runs()
    parent, child = runs["shapes-smoke"], runs["shapes-smoke/predict"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert parent.data.params["model.num_clusters"] == str(run.model.num_clusters)
    assert parent.data.params["train.learning_rate"] == str(run.train.learning_rate)
    assert child.data.params["predict.overlap_threshold"] == str(run.predict.overlap_threshold)
    assert parent.data.tags["kmax.parameters_digest"] == identity.parameters_digest
    assert parent.data.tags["kmax.data_digest"] == identity.data_digest
    assert parent.data.tags["kmax.commit"] == identity.commit
    (dataset,) = parent.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("shapes_smoke", identity.data_digest[:36])
    artifacts = client().list_artifacts(child.info.run_id, "pictures")
    assert [artifact.path for artifact in artifacts] == ["pictures/p.png"]
    assert child.data.tags["weights.path"] == str(weights)
    models = client().search_logged_models([parent.info.experiment_id])
    assert [model.tags["sha256"] for model in models] == [child.data.tags["weights.sha256"]]


def test_an_artifact_that_changed_since_is_not_sent(run, offline, store, project):
    picture = project / "p.png"
    picture.write_bytes(b"first")
    with track(run, "predict") as tracker:
        tracker.picture(picture)
    picture.write_bytes(b"second")
    (lost,) = sync([]).lines()[1:]
    assert lost.startswith(f"not sent: {picture}: missing or changed")
    assert client().list_artifacts(tracked_runs()["shapes-smoke/predict"].info.run_id) == []


STAGE = """
import sys
from kmax.runs.families import load_run
from kmax.tracking.tracker import track
with track(load_run("shapes-smoke"), sys.argv[1]) as tracker:
    for step in range(300):
        tracker.metrics({"value/a": step, "value/b": float("nan")}, step=step)
    if len(sys.argv) > 2:
        print("logged", flush=True)
        sys.stdin.read()
"""


def start_stage(stage: str, *more: str, **environment: str) -> subprocess.Popen:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        [sys.executable, "-c", STAGE, stage, *more], env={**os.environ, **environment}, **pipes
    )


def test_four_stages_at_once_on_a_fresh_store_lose_nothing(run):
    stages = ("train", "predict", "evaluate", "benchmark")
    for process in [start_stage(stage) for stage in stages]:
        _, errors = process.communicate()
        warnings = [line for line in errors.splitlines() if UNKNOWN_COMMIT not in line]
        assert (process.returncode, warnings) == (0, [])
    runs = tracked_runs()
    assert set(runs) == {"shapes-smoke", *(f"shapes-smoke/{stage}" for stage in stages)}
    for stage in stages:
        child = runs[f"shapes-smoke/{stage}"]
        assert child.info.status == "FINISHED"
        for name in ("value/a", "value/b"):
            history = client().get_metric_history(child.info.run_id, name)
            assert sorted(metric.step for metric in history) == list(range(300))
    assert "system/cpu_utilization_percentage" in runs["shapes-smoke/train"].data.metrics
    sync()
    assert tracked_runs().keys() == runs.keys()


def test_an_unavailable_server_gives_one_warning_and_sync_sends_the_missing_events(run, empty_store):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{unused.getsockname()[1]}"
    process = start_stage("predict", MLFLOW_TRACKING_URI=uri)
    _, errors = process.communicate()
    assert process.returncode == 0
    (line,) = (line for line in errors.splitlines() if UNKNOWN_COMMIT not in line)
    assert uri in line
    assert "kmax track sync" in line
    shutil.copy(empty_store, "mlflow.db")
    assert sum(sync(["shapes-smoke"]).events.values()) == 303
    assert tracked_runs()["shapes-smoke/predict"].data.metrics["value/a"] == 299


def test_the_events_of_a_killed_stage_are_not_lost(run, store):
    process = start_stage("predict", "wait")
    assert process.stdout.readline() == "logged\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    sync()
    child = tracked_runs()["shapes-smoke/predict"]
    assert child.data.metrics["value/a"] == 299
    assert child.info.status == "RUNNING"


def test_sync_suggests_the_nearest_run_and_reports_a_failing_store(run, offline, monkeypatch):
    with track(run, "train"):
        pass
    with pytest.raises(InputError, match="shapes-smoke"):
        sync(["shapes-smok"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"127\.0\.0\.1:9"):
        sync()
