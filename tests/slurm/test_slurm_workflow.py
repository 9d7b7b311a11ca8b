"""The family `smoke` on a real SLURM of two nodes, with the command given in the README."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, cluster, lacking
from projects import ROOT, copy_project, environment, run

from kmax import paths

RUN = "shapes-smoke"


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    if reason := lacking():
        if os.environ.get("KMAX_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with cluster() as up:
        yield up


@pytest.fixture(scope="module")
def project(slurm: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that Snakemake has made on the cluster."""
    folder = copy_project(tmp_path_factory.mktemp("slurm") / "project")
    shutil.copytree(ROOT / "tests/slurm/site", folder / "tests/slurm/site")
    here = environment()["PATH"]
    wrappers = slurm.environment["PATH"].split(os.pathsep)[0]
    told = run(
        folder,
        *("snakemake", "--profile", "slurm", "--profile", "tests/slurm/site", "smoke"),
        env=slurm.environment | {"PATH": f"{wrappers}{os.pathsep}{here}", "KMAX_TRACKING": "off"},
    )
    (folder / "snakemake.log").write_text(told)
    return folder


def test_every_stage_is_made_and_nothing_is_left_to_do(project):
    for path in (paths.model, paths.history, paths.predictions, paths.metrics, paths.per_image, paths.speed):
        assert (project / path(RUN)).exists()
    assert (project / paths.family_report("smoke") / "site/index.html").is_file()
    assert "Nothing to be done" in run(project, "snakemake", "--dry-run", "--cores", "1", "smoke")


def test_the_heavy_stages_ran_as_slurm_jobs_and_the_small_ones_here(project, slurm):
    submitted = re.findall(
        r"^rule (\w+):$.*?submitted with SLURM jobid (\d+)",
        (project / "snakemake.log").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    assert {"prepare", "train"} <= {rule for rule, _ in submitted}
    states = {job["JobId"]: job["JobState"] for job in slurm.jobs()}
    assert len(states) == 5  # prepare, train, predict, evaluate, benchmark
    assert set(states.values()) == {"COMPLETED"}


def test_training_ran_over_both_nodes_with_one_rank_each(project, slurm):
    wide = [job for job in slurm.jobs() if job["NumNodes"] == "2"]
    assert [job["NodeList"] for job in wide] == ["node[1-2]"]
    assert wide[0]["TresPerNode"] == "gres:gpu:2"
    log = (project / f"logs/train/{RUN}.log").read_text()
    assert "on 2 cpu rank(s)" in log
    assert log.count(str(paths.model(RUN))) >= 2, "each node's launcher ends by naming the model"
    (events,) = (project / "runs" / RUN).glob("*/events.jsonl")
    found = [json.loads(line) for line in events.read_text().splitlines()]
    started = [event for event in found if event["stage"] == "train" and event["kind"] == "start"]
    assert len(started) == 1, "rank 0 alone writes events"
    values = [event["values"] for event in found if event["kind"] == "parameters"]
    assert {value["environment.ranks"] for value in values if "environment.ranks" in value} == {"2"}
