"""Showing, comparing and checking parameter files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from kmax import paths
from kmax.config import Family, Parameters, Run, WeightsFile
from kmax.data.dataset_file import Dataset
from kmax.display import printable
from kmax.errors import InputError
from kmax.parameter_files import load, names_in
from kmax.runs.families import families, load_run, location

SCHEMAS: dict[str, type[Parameters]] = {
    "family": Family,
    "run": Run,
    "dataset": Dataset,
    "weights": WeightsFile,
}


def run_as_yaml(run: str) -> str:
    """The complete parameters of a run as YAML, including inherited ones."""
    text: str = yaml.safe_dump(
        load_run(run).model_dump(), sort_keys=False, default_flow_style=None, width=110
    )
    return text


def differences(run: str, other: str) -> list[str]:
    """One line per parameter in which two runs differ: `key: left -> right`."""
    left, right = _flat(load_run(run).model_dump()), _flat(load_run(other).model_dump())
    absent = "(absent)"
    return [
        printable(f"{key}: {left.get(key, absent)} -> {right.get(key, absent)}")
        for key in dict.fromkeys([*left, *right])
        if left.get(key, absent) != right.get(key, absent)
    ]


def check(others: Mapping[Path, Callable[[], object]]) -> int:
    """Read every parameter file; the names that files refer to must exist.

    Args:
        others: readers of the parameter files of other packages, by path; absent files are skipped.

    Returns:
        How many files were read.

    Raises:
        InputError: one line per fault in any of them.
    """
    faults: list[str] = []
    datasets = names_in(paths.PARAMS / "datasets")
    for name in datasets:
        faults += _faults(partial(load, Dataset, paths.dataset_file(name)))
    weights: set[str] | None = set()  # None: unknown, since the file is invalid
    if paths.WEIGHTS_FILE.exists():
        try:
            weights = set(load(WeightsFile, paths.WEIGHTS_FILE).weights)
        except InputError as error:
            weights = None
            faults += error.faults
    found: dict[str, Family] = {}
    faults += _faults(lambda: found.update(families()))
    for family in found.values():
        for run in family.runs.values():
            faults += _dangling(run, set(datasets), weights)
    for path, read in others.items():
        faults += _faults(read) if path.exists() else []
    if faults:
        raise InputError(faults)
    return len(datasets) + len(found) + sum(path.exists() for path in (paths.WEIGHTS_FILE, *others))


def schema(kind: str) -> str:
    """The JSON schema of a kind of file (`SCHEMAS`), or of a run as `kmax params show` prints it."""
    value = SCHEMAS[kind].model_json_schema()
    if kind == "family":  # there a run's name is its key
        run = value["$defs"]["Run"]
        del run["properties"]["run"]
        run["required"].remove("run")
    return json.dumps(value, indent=1)


def _faults(read: Callable[[], object]) -> list[str]:
    try:
        read()
    except InputError as error:
        return error.faults
    return []


def _dangling(run: Run, datasets: set[str], weights: set[str] | None) -> Iterator[str]:
    if run.data.dataset not in datasets:
        yield f"{location(run.run)}.data.dataset: no file {paths.dataset_file(run.data.dataset)}"
    if weights is not None and run.initial_weights is not None and run.initial_weights not in weights:
        section = "port" if run.port else "train"
        where = f"{location(run.run)}.{section}.weights"
        yield f"{where}: '{run.initial_weights}' is not in {paths.WEIGHTS_FILE}"


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    result: dict[str, Any] = {}
    for key, inner in value.items():
        result |= _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    return result
