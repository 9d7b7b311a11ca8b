"""Runs in the family files of projects that tests make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from kmax.parameter_files import read_yaml

ROOT = Path(__file__).resolve().parents[1]


def sections(run: str) -> dict[str, Any]:
    """The complete sections of one of this project's runs, free to change."""
    for path in sorted((ROOT / "params/runs").glob("*.yaml")):
        if found := read_yaml(path)["runs"].get(run):
            return json.loads(json.dumps(found))  # without the parts that runs share
    raise KeyError(run)


def write_run(folder: Path, run: str, content: dict[str, Any], *, family: str | None = None) -> Path:
    """Write a family with one run to the project in `folder`; it is named like the run where not said."""
    family = family or run
    path = folder / "params/runs" / f"{family}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    value = {"family": family, "description": "one run of a test", "runs": {run: content}}
    path.write_text(yaml.safe_dump(value, sort_keys=False))
    return path
