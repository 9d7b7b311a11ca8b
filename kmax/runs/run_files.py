"""Run files by name."""

from __future__ import annotations

from kmax import paths
from kmax.config import Run
from kmax.parameter_files import load_named, names_in


def run_names() -> list[str]:
    """Names of all run files."""
    return names_in(paths.PARAMS / "runs")


def load_run(name: str) -> Run:
    """Read `params/runs/<name>.yaml`.

    Raises:
        InputError: no such run (with the nearest name), or wrong keys, or the file names another run.
    """
    return load_named(Run, paths.run_file(name), "run")
