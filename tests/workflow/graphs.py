"""The graph that each engine expands from its files, in one format for comparison.

As a script it prints Snakemake's for each target: `python graphs.py TARGET...` in the project's folder.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from projects import ROOT, environment

# A job's line: time budget and launcher from the machine, the verb, the log.
SHELL = re.compile(r"(?:KMAX_TIME_BUDGET= +)?(kmax [^|>]+?) 2>&1 \| tee -i logs/\S+\.log")


@dataclass(frozen=True)
class Stage:
    """One command of a graph.

    Attributes:
        command: the verb with its arguments.
        inputs: paths that it reads.
        outputs: paths that it makes.
        parameters: what it reruns for when it changes, by section.
    """

    command: str
    inputs: frozenset[str]
    outputs: frozenset[str]
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Facts:
    """What must be the same in both engines for one command."""

    outputs: frozenset[str]
    follows: frozenset[str]
    sources: frozenset[str]
    parameters: dict[str, Any]


class AmbiguousGraphError(Exception):
    """The same command occurs in two stages."""


def facts(stages: Iterable[Stage]) -> dict[str, Facts]:
    """For each command: what it makes, whose outputs it reads, which given files it reads, its parameters.

    An input may be an output of a stage, or lie in one, or (a folder) contain some.
    """
    stages = list(stages)
    makers = [(PurePosixPath(output), stage.command) for stage in stages for output in stage.outputs]
    result: dict[str, Facts] = {}
    for stage in stages:
        follows, sources = set(), set()
        for name in stage.inputs:
            path = PurePosixPath(name)
            found = {
                command for made, command in makers if path.is_relative_to(made) or made.is_relative_to(path)
            }
            follows |= found
            if not found:
                sources.add(name)
        if stage.command in result:
            raise AmbiguousGraphError(f"two stages run '{stage.command}'")
        result[stage.command] = Facts(stage.outputs, frozenset(follows), frozenset(sources), stage.parameters)
    return result


def snakemake_graph(project: Path, target: str) -> list[Stage]:
    """All jobs that lead to `target`, whatever exists already."""
    return snakemake_graphs(project, [target])[target]


def snakemake_graphs(project: Path, targets: list[str]) -> dict[str, list[Stage]]:
    """`snakemake_graph` of several targets, by one process."""
    command = [sys.executable, __file__, *targets]
    answer = subprocess.run(
        command,
        cwd=project,
        env=environment() | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return {
        target: [
            Stage(
                job["command"], frozenset(job["inputs"]), frozenset(job["outputs"]), used(job["parameters"])
            )
            for job in jobs
        ]
        for target, jobs in json.loads(answer.stdout.splitlines()[-1]).items()
    }


def dvc_graph(project: Path, pipeline: str) -> list[Stage]:
    """All stages of a dvc.yaml, and those of others that lead to them."""
    from dvc.repo import Repo

    with Repo(str(project)) as repository:
        stages = repository.stage.collect(str(project / pipeline), with_deps=True)
        return [_dvc_stage(stage, project) for stage in stages]


def _dvc_stage(stage: Any, project: Path) -> Stage:
    inputs, parameters = set(), {}
    for dependency in stage.deps:
        if hasattr(dependency, "params"):
            values = dependency.read_params()
            assert set(values) == set(dependency.params), f"{stage.addressing}: {dependency} lacks parameters"
            parameters |= {_section(key): value for key, value in values.items()}
        else:
            inputs.add(str(Path(dependency.fs_path).relative_to(project)))
    outputs = frozenset(str(Path(out.fs_path).relative_to(project)) for out in stage.outs)
    return Stage(stage.cmd, frozenset(inputs), outputs, used(parameters))


def _section(key: str) -> str:
    """Names of parameters that the engines spell differently."""
    return "entry" if key.startswith("weights.") else "evaluator" if key == "VERSION" else key.split(".")[-1]


def used(value: Any) -> Any:
    """Parameters without those that say "not used" (null, false), which a file may omit."""
    if isinstance(value, dict):
        return {key: used(item) for key, item in value.items() if item is not None and item is not False}
    return [used(item) for item in value] if isinstance(value, list) else value


def _print_snakemake_jobs(targets: list[str]) -> None:
    from snakemake.api import SnakemakeApi
    from snakemake.settings.types import DAGSettings, OutputSettings, Quietness, ResourceSettings

    jobs = {}
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        for target in targets:
            workflow = api.workflow(ResourceSettings(cores=1), snakefile=Path("Snakefile"))
            dag = workflow.dag(DAGSettings(targets={target}, forceall=True))
            dag.execute_workflow(executor="dryrun")
            jobs[target] = [_job(job) for job in workflow._workflow.dag.jobs if job.shellcmd]
    print(json.dumps(jobs))


def _job(job: Any) -> dict[str, Any]:
    line = SHELL.fullmatch(job.shellcmd.strip())
    assert line, f"rule {job.rule}: not one kmax command with its log: {job.shellcmd}"
    return {
        "command": line[1],
        "inputs": list(map(str, job.input)),
        "outputs": list(map(str, job.output)),
        "parameters": dict(job.params.items()),
    }


if __name__ == "__main__":
    _print_snakemake_jobs(sys.argv[1:])
