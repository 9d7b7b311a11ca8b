"""A project folder with one entry of params/weights.yaml, and a small model."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from kmax.model.create import create_model
from kmax.model.kmax import KMaX

ROOT = Path(__file__).resolve().parents[3]
ARGUMENTS = {"num_classes": 8, "image_size": (65, 65), "num_clusters": 4}
Register = Callable[..., None]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params").mkdir()
    for folder in ("datasets", "runs"):
        (tmp_path / "params" / folder).symlink_to(ROOT / "params" / folder)
    (tmp_path / "params/weights.yaml").write_text("weights: {}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def register(project: Path) -> Register:
    """Adds an entry to params/weights.yaml; the sha256 is that of `file`, unless given."""

    def add(name: str, file: Path, form: str, url: str | None = None, sha256: str | None = None) -> None:
        path = project / "params/weights.yaml"
        content = yaml.safe_load(path.read_text())
        source = {"url": url} if url else {"path": str(file)}
        found = sha256 or hashlib.sha256(file.read_bytes()).hexdigest()
        content["weights"][name] = {"description": "test", **source, "sha256": found, "format": form}
        path.write_text(yaml.safe_dump(content))

    return add


@pytest.fixture(scope="session")
def model() -> KMaX:
    torch.manual_seed(0)
    return create_model("kmax_tiny", **ARGUMENTS)
