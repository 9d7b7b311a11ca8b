"""Scratch projects: one without outputs, one after all stages."""

import shutil
from pathlib import Path

import pytest
from commandline import STAGES, run_kmax, write_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project without outputs."""
    return write_project(tmp_path / "project")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after all stages; tests must not write to it (`copy` is one they may)."""
    folder = write_project(tmp_path_factory.mktemp("finished"))
    for stage in STAGES:
        answer = run_kmax(folder, *stage)
        assert answer.returncode == 0, f"kmax {' '.join(stage)}: {answer.stderr}"
        last = answer.stdout.strip().splitlines()[-1]
        assert (folder / last).exists(), f"kmax {' '.join(stage)} says that it wrote {last}"
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """The project after all stages, to change."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))
