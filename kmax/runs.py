"""Run files by name."""

from __future__ import annotations

from kmax import paths
from kmax.config import Run
from kmax.errors import InputError, unknown_name
from kmax.parameter_files import load


def run_names() -> list[str]:
    """Names of all run files."""
    return sorted(path.stem for path in (paths.PARAMS / "runs").glob("*.yaml"))


def load_run(name: str) -> Run:
    """Read `params/runs/<name>.yaml`.

    Raises:
        InputError: no such run (with the nearest name), or wrong keys, or the file names another run.
    """
    path = paths.run_file(name)
    if name not in run_names():
        raise unknown_name("run", name, run_names(), str(path.parent))
    run = load(Run, path)
    if run.run != name:
        raise InputError(f"{path}: run: '{run.run}' does not match the file's name")
    return run
