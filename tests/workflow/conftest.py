"""Copies of the project for the tests of the engines."""

from pathlib import Path

import pytest
from projects import add_runs_from_weights, copy_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A fresh copy of the project, without outputs."""
    return copy_project(tmp_path / "project")


@pytest.fixture
def project_with_weights(project: Path) -> Path:
    """A fresh copy whose smoke family also has a finetuned and a ported run."""
    add_runs_from_weights(project)
    return project
