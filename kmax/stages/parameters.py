"""Showing, comparing and checking parameter files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from kmax import files, paths
from kmax.config import Dataset, Parameters, Run, WeightsFile, load
from kmax.errors import InputError
from kmax.runs import load_run, run_names

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


def check() -> int:
    """Read every parameter file; the names that files refer to must exist.

    Returns:
        How many files were read.

    Raises:
        InputError: one line per fault in any of them.
    """
    faults: list[str] = []
    count = 0
    datasets = sorted((paths.PARAMS / "datasets").glob("*.yaml"))
    for path in datasets:
        count += 1
        faults += _faults(Dataset, path)
    weights: set[str] = set()
    if paths.WEIGHTS_FILE.exists():
        count += 1
        faults += _faults(WeightsFile, paths.WEIGHTS_FILE)
        if not faults:
            weights = set(load(WeightsFile, paths.WEIGHTS_FILE).weights)
    known = {path.stem for path in datasets}
    for name in run_names():
        count += 1
        try:
            faults += _dangling(load_run(name), known, weights)
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
    if not count:
        raise InputError(f"{paths.PARAMS.resolve()}: no parameter files; call kmax in the project's folder")
    return count


def schema(kind: str, out: Path | None) -> str:
    """The JSON schema of a kind of file: as text, or written to `out`, whose path is returned."""
    text = json.dumps(SCHEMAS[kind].model_json_schema(), indent=1)
    if out is None:
        return text
    files.write_text(out, text + "\n")
    return str(out)


def _faults(model: type[Parameters], path: Path) -> list[str]:
    try:
        load(model, path)
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
