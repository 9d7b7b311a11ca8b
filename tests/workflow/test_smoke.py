"""The engines on the real verbs: kill and continue, record, two clones, what reruns after a change.

One project is made by Snakemake for all tests of this file; each test restores it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from projects import (
    FINETUNED,
    PORTED,
    SMOKE,
    add_runs_from_weights,
    commit,
    copy_project,
    edit,
    environment,
    run,
)

from kmax import paths

RUN = "shapes-smoke"
DEADLINE_SECONDS = 900


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which Snakemake and all its jobs were killed after a training's first checkpoint."""
    project = copy_project(tmp_path_factory.mktemp("smoke") / "first")
    add_runs_from_weights(project)
    with open(project / "killed.log", "wb") as log:
        engine = subprocess.Popen(
            ["snakemake", "--cores", "2", str(paths.model(RUN))],
            cwd=project,
            env=environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        deadline = time.monotonic() + DEADLINE_SECONDS
        try:
            while not list((project / "runs" / RUN).glob("*/checkpoint-*.pt")):
                assert engine.poll() is None, (project / "killed.log").read_text()
                assert time.monotonic() < deadline, (project / "killed.log").read_text()
                time.sleep(0.05)
        finally:
            _kill_session(engine)
    return project


def _kill_session(engine: subprocess.Popen[bytes]) -> None:
    """Kill the engine and every job of its session, wherever they moved to in the process tree."""
    members = subprocess.run(
        ["ps", "-o", "pid=", "--sid", str(engine.pid)], capture_output=True, text=True, check=False
    )
    for pid in map(int, members.stdout.split()):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    engine.wait()


@pytest.fixture(scope="module")
def finished(killed: Path) -> Path:
    """The same project after `snakemake smoke` was run again."""
    assert not (killed / paths.model(RUN)).exists()
    assert not (killed / paths.history(RUN)).exists()
    run(killed, "snakemake", "--cores", "2", "smoke")
    return killed


@pytest.fixture(scope="module")
def recorded(finished: Path) -> Path:
    """The same project after `kmax record`, committed to git and pushed to a DVC remote in a folder."""
    run(finished, "kmax", "record", "smoke")
    remote = finished.parent / "remote"
    run(finished, "dvc", "remote", "add", "--default", "store", str(remote))
    commit(finished, "Record")
    run(finished, "dvc", "push")
    return finished


@pytest.fixture(scope="module")
def restored(recorded: Path) -> Path:
    """A second clone after `kmax restore`."""
    clone = recorded.parent / "second"
    run(recorded.parent, "git", "clone", "--quiet", str(recorded), str(clone))
    assert not (clone / "results").exists()
    run(clone, "kmax", "restore")
    return clone


@pytest.fixture
def parameters(request: pytest.FixtureRequest, finished: Path) -> Iterator[Path]:
    """The family's file of the finished project, put back after the test."""
    path = finished / paths.family_file("smoke")
    text = path.read_text()
    yield path
    path.write_text(text)


def left_to_snakemake(project: Path, target: str = "smoke") -> set[str]:
    """Rules with jobs that Snakemake would run."""
    output = run(project, "snakemake", "--dry-run", "--cores", "1", target)
    jobs = set(re.findall(r"^(?:local)?rule (\w+):$", output, re.MULTILINE)) - {target}
    assert jobs or "Nothing to be done" in output
    return jobs


def left_to_dvc(project: Path) -> set[str]:
    """Stages that DVC finds changed."""
    status = json.loads(run(project, "dvc", "status", "--json", SMOKE).splitlines()[-1])
    return {stage.rsplit(":", 1)[-1] for stage in status}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".snakemake_timestamp" and path.suffix != ".lock"
    }


def test_a_killed_training_is_resumed_not_repeated(finished):
    log = (finished / f"logs/train/{RUN}.log").read_text()
    assert re.search(r"resuming after step [1-9]", log), log


def test_snakemake_finishes_every_stage_and_then_has_nothing_to_do(finished):
    for name in (RUN, FINETUNED, PORTED):
        for path in (
            paths.model,
            paths.predictions,
            paths.metrics,
            paths.per_class,
            paths.per_image,
            paths.speed,
        ):
            assert (finished / path(name)).exists()
    assert (finished / paths.history(FINETUNED)).is_file()
    assert (finished / paths.port_report(PORTED)).is_file()
    assert (finished / paths.family_report("smoke") / "site/index.html").is_file()
    assert left_to_snakemake(finished) == set()


def test_nothing_temporary_is_left(finished):
    hidden = [path for folder in ("data", "results", "reports") for path in (finished / folder).rglob(".*")]
    left = [path for path in hidden if path.name != ".snakemake_timestamp" and path.suffix != ".lock"]
    assert left == []


def test_a_second_snakemake_in_the_folder_gives_a_one_line_error(finished):
    from kmax.files import exclusive_lock

    with exclusive_lock(finished / ".snakemake/kmax.lock", "held"):
        output = run(
            finished, "snakemake", "--cores", "1", "--forcerun", "report_family", "--", "smoke", check=False
        )
    assert "another snakemake is running in this folder" in output


def test_the_report_of_snakemake_is_made(finished):
    run(finished, "snakemake", "smoke", "--report")
    page = (finished / "report.html").read_text()
    assert f"{RUN}-training" in page


@pytest.mark.parametrize(
    ("old", "new", "rules"),
    [
        ("description: A few", "description: Few", set()),
        ("bootstrap_seed: 0", "bootstrap_seed: 1", {"evaluate", "report_family"}),
        ("overlap_threshold: 0.8", "overlap_threshold: 0.7", {"predict", "evaluate", "report_family"}),
        (
            "seed: 0\n    weights",
            "seed: 1\n    weights",
            {"train", "predict", "evaluate", "benchmark", "report_family"},
        ),
    ],
)
def test_a_changed_section_reruns_dependent_stages(finished, parameters, old, new, rules):
    edit(parameters, old, new)
    assert left_to_snakemake(finished) == rules


def test_dvc_has_nothing_to_do_after_record(recorded):
    assert left_to_dvc(recorded) == set()
    output = run(recorded, "dvc", "repro", SMOKE)
    assert "Running stage" not in output
    assert "Data and pipelines are up to date" in output
    assert left_to_snakemake(recorded) == set()


def test_dvc_sees_changes_of_the_same_stages_as_snakemake(recorded, parameters):
    edit(parameters, "bootstrap_seed: 0", "bootstrap_seed: 1")
    stages = {f"evaluate@{name}" for name in (RUN, FINETUNED, PORTED)}  # all inherit the section
    assert left_to_dvc(recorded) == stages
    output = run(recorded, "kmax", "record", "smoke", check=False)
    assert "snakemake has jobs left" in output
    assert left_to_dvc(recorded) == stages


def test_a_section_that_one_run_writes_itself_concerns_that_run_alone(recorded, parameters):
    edit(
        parameters,
        "source: safetensors}\n    predict: *predict",
        "source: safetensors}\n    predict: {<<: *predict, overlap_threshold: 0.7}",
    )
    assert left_to_dvc(recorded) == {f"predict@{PORTED}"}  # and what follows once it has changed
    output = run(recorded, "snakemake", "--dry-run", "--cores", "1", "smoke")
    assert set(re.findall(r"^    wildcards: run=(\S+)$", output, re.MULTILINE)) == {PORTED}
    assert left_to_snakemake(recorded) == {"predict", "evaluate", "report_family"}


def test_results_unknown_to_snakemake_are_not_recorded_with_other_parameters(recorded, parameters):
    known, away = recorded / ".snakemake/metadata", recorded / ".snakemake/away"
    known.rename(away)
    try:
        edit(parameters, "seed: 0\n    weights", "seed: 1\n    weights")
        assert left_to_snakemake(recorded) == set()
        output = run(recorded, "kmax", "record", "smoke", check=False)
    finally:
        if known.exists():
            shutil.rmtree(known)
        away.rename(known)
    for path, verb in {
        paths.model(RUN): "train",
        paths.predictions(RUN): "predict",
        paths.metrics(RUN): "evaluate",
        paths.speed(RUN): "benchmark",
    }.items():
        assert f"{path}: was produced with different parameters" in output
        assert f"run: kmax {verb} {RUN}" in output
    assert f"train@{RUN}" in left_to_dvc(recorded)


def test_dvc_shows_metrics_and_plots(recorded):
    shown = json.loads(run(recorded, "dvc", "metrics", "show", "--json", str(paths.scores(RUN))))
    assert {"pq", "pq_things", "pq_stuff", "miou"} <= set(shown[""]["data"][str(paths.scores(RUN))]["data"])
    run(recorded, "dvc", "metrics", "diff", "HEAD")
    run(recorded, "dvc", "plots", "show", str(paths.history(RUN)), "--out", "plots")
    assert (recorded / "plots/index.html").is_file()


def test_a_second_clone_has_the_same_files_and_nothing_to_do(recorded, restored):
    for folder in ("results", "reports", "data/prepared", "data/raw", "data/weights"):
        assert contents(restored / folder) == contents(recorded / folder), folder
    assert left_to_snakemake(restored) == set()
    assert left_to_dvc(restored) == set()
    assert "Running stage" not in run(restored, "dvc", "repro", SMOKE)


def test_a_restored_clone_still_sees_changes(restored):
    path = restored / paths.family_file("smoke")
    text = path.read_text()
    edit(path, "overlap_threshold: 0.8", "overlap_threshold: 0.7")
    assert left_to_snakemake(restored) == {"predict", "evaluate", "report_family"}
    path.write_text(text)


def test_stages_that_changed_since_they_were_recorded_are_not_restored(recorded):
    clone = recorded.parent / "third"
    run(recorded.parent, "git", "clone", "--quiet", str(recorded), str(clone))
    edit(clone / paths.family_file("smoke"), "overlap_threshold: 0.8", "overlap_threshold: 0.7")
    output = run(clone, "kmax", "restore")
    assert f"not restored, changed since it was recorded: {SMOKE}:predict@{RUN}" in output
    assert (clone / paths.model(RUN)).is_file()
    assert not (clone / paths.metrics(RUN)).exists()
    assert left_to_snakemake(clone) == {"predict", "evaluate", "report_family"}
