"""Showing, comparing and checking parameter files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from kmax import files, paths
from kmax.config import Parameters, Run, WeightsFile
from kmax.data.dataset_file import Dataset
from kmax.errors import InputError
from kmax.parameter_files import load
from kmax.runs.families import contradictions
from kmax.runs.families import read as read_families
from kmax.runs.run_files import load_run, run_names

SCHEMAS: dict[str, type[Parameters]] = {"run": Run, "dataset": Dataset, "weights": WeightsFile}


def show(run: str) -> str:
    """A run's parameters as YAML."""
    text: str = yaml.safe_dump(
        load_run(run).model_dump(), sort_keys=False, default_flow_style=None, width=110
    )
    return text


def diff(run: str, other: str) -> list[str]:
    """One line per parameter in which two runs differ: `key: left -> right`."""
    left, right = _flat(load_run(run).model_dump()), _flat(load_run(other).model_dump())
    absent = "(absent)"
    return [
        f"{key}: {left.get(key, absent)} -> {right.get(key, absent)}"
        for key in dict.fromkeys([*left, *right])
        if left.get(key, absent) != right.get(key, absent)
    ]


def check(read_tables: Callable[[], object]) -> int:
    """Read every parameter file; the names that files refer to must exist.

    Returns:
        How many files were read.

    Raises:
        InputError: one line per fault in any of them.
    """
    faults: list[str] = []
    datasets = sorted((paths.PARAMS / "datasets").glob("*.yaml"))
    for path in datasets:
        faults += _faults(partial(load, Dataset, path))
    weights: set[str] = set()
    if paths.WEIGHTS_FILE.exists():
        faults += _faults(lambda: weights.update(load(WeightsFile, paths.WEIGHTS_FILE).weights))
    family_faults = _faults(read_families)
    faults += family_faults
    for name in run_names():
        run_faults = _faults(partial(load_run, name))
        faults += run_faults
        if not run_faults:
            run = load_run(name)
            faults += _dangling(run, {path.stem for path in datasets}, weights)
            faults += [] if family_faults else contradictions(run)
    if not family_faults:
        listed = {run for family in read_families().families.values() for run in family.runs}
        absent = sorted(listed - set(run_names()))
        faults += [f"{paths.RUNS_FILE}: run '{name}' has no file {paths.run_file(name)}" for name in absent]
    if paths.TABLES_FILE.exists():
        faults += _faults(read_tables)
    if faults:
        raise InputError(faults)
    optional = (paths.WEIGHTS_FILE, paths.TABLES_FILE, paths.REFERENCE_FILE)
    return len(datasets) + len(run_names()) + 1 + sum(path.exists() for path in optional)


def schema(kind: str, out: Path | None) -> str:
    """The JSON schema of a kind of file: as text, or written to `out`, whose path is returned."""
    text = json.dumps(SCHEMAS[kind].model_json_schema(), indent=1)
    if out is None:
        return text
    files.write_text(out, text + "\n")
    return str(out)


def _faults(read: Callable[[], object]) -> list[str]:
    try:
        read()
    except InputError as error:
        return error.faults
    return []


def _dangling(run: Run, datasets: set[str], weights: set[str]) -> Iterator[str]:
    where = paths.run_file(run.run)
    if run.data.dataset not in datasets:
        yield f"{where}: data.dataset: no file {paths.dataset_file(run.data.dataset)}"
    wanted = run.port.weights if run.port else run.train.weights if run.train else None
    if wanted is not None and wanted not in weights:
        yield f"{where}: weights: '{wanted}' is not in {paths.WEIGHTS_FILE}"


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    result: dict[str, Any] = {}
    for key, inner in value.items():
        result |= _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    return result
