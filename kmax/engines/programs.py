"""Calls of the two engines: Snakemake as a command, DVC as a library."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kmax import paths
from kmax.errors import InputError

ADVICE = "install it with `pip install '.[engines]'` in the project folder, or `make setup`"


def snakemake(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in the project folder; its output is captured.

    Raises:
        InputError: not installed, or this is not the project folder.
    """
    beside = Path(sys.executable).with_name("snakemake")
    command = str(beside) if beside.is_file() else shutil.which("snakemake")
    if command is None:
        raise InputError(f"snakemake: not installed; {ADVICE}")
    if not Path("Snakefile").is_file():
        raise InputError(f"{Path.cwd()}: no Snakefile in this folder; run this in the project folder")
    return subprocess.run([command, *arguments], capture_output=True, text=True, check=False)


@contextlib.contextmanager
def dvc_repository() -> Iterator[Any]:
    """Open the project's DVC repository (a `dvc.repo.Repo`); its errors become input errors.

    Raises:
        InputError: DVC is not installed, this is no DVC project, or DVC itself fails.
    """
    try:
        from dvc.exceptions import DvcException
        from dvc.repo import Repo
    except ImportError:
        raise InputError(f"dvc: not installed; {ADVICE}") from None
    if not paths.RUNS.is_dir():
        raise InputError(
            f"{Path.cwd()}: no folder {paths.RUNS} in this folder; run this in the project folder"
        )
    try:
        with Repo() as repository:
            yield repository
    except DvcException as error:
        raise InputError(f"dvc: {' '.join(str(error).split())}") from error


def outputs(stage: Any) -> list[Path]:
    """Paths of a DVC stage's outputs, relative to the project folder."""
    return [Path(out.fs_path).relative_to(Path.cwd()) for out in stage.outs]
