import json
import shutil
from pathlib import Path

import pytest

from kmax import config
from kmax.runs import families
from kmax.tracking.mlflow_mirror import Mirror

ROOT = Path(__file__).resolve().parents[3]
DIGEST = "5" * 64


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with the run files and a prepared dataset, as the working folder."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    manifest = tmp_path / "data/prepared/shapes_smoke/manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"digest": DIGEST}))
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "KMAX_TRACKING", "RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def run(project: Path) -> config.Run:
    return families.load_run("shapes-smoke")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An initialised store without runs, to copy: making one takes seconds."""
    pytest.importorskip("mlflow")
    folder = tmp_path_factory.mktemp("store")
    Mirror(f"sqlite:///{folder / 'mlflow.db'}").replay(folder)
    return folder / "mlflow.db"
