"""A project folder with a small generated dataset and a model with random weights."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from run_entries import sections, write_run

from kmax import paths
from kmax.config import Category, Run
from kmax.data.datasets import open_prepared
from kmax.data.download.download_dataset import download
from kmax.data.prepare.prepare_dataset import prepare
from kmax.model.create import create_model
from kmax.model.io import save_model
from kmax.runs.families import load_run

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder where the run `small` can be predicted."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "params", folder / "params")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        dataset = yaml.safe_load((folder / "params/datasets/shapes_smoke.yaml").read_text())
        dataset["dataset"] = "shapes_small"
        dataset["source"]["images"] = {"train": 1, "val": 5}
        dataset["source"]["image_size"] = [48, 64]
        (folder / "params/datasets/shapes_small.yaml").write_text(yaml.safe_dump(dataset))
        run = sections("shapes-smoke")
        run["data"] |= {"dataset": "shapes_small", "image_size": [65, 65]}
        # Random weights are never sure of anything.
        run["predict"] |= {
            "pixel_threshold": 0.0,
            "class_threshold_thing": 0.0,
            "class_threshold_stuff": 0.0,
            "overlap_threshold": 0.0,
            "batch_size": 2,
            "pictures": 0,
        }
        write_run(folder, "small", run)
        download("shapes_small")
        prepare("shapes_small", workers=1)
        write_model(load_run("small"), open_prepared("shapes_small").categories)
    return folder


def write_model(run: Run, categories: list[Category]) -> None:
    """Random weights for a run."""
    torch.manual_seed(0)
    height, width = run.data.image_size
    model = create_model(**run.model.model_dump(), num_classes=len(categories), image_size=(height, width))
    save_model(model, paths.model(run.run), categories)


@pytest.fixture
def project(ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the ready folder, as the working folder."""
    folder = tmp_path / "project"
    shutil.copytree(ready, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def one_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests may run inside a job of SLURM or torchrun; the code under test does not."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
