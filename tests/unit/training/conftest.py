"""A small project: a few generated shapes, a run of six steps, and its uninterrupted result."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from run_entries import sections, write_run

from kmax import paths
from kmax.data.download.download_dataset import download
from kmax.data.prepare.prepare_dataset import prepare
from kmax.runs.families import load_run
from kmax.runs.identity import identify
from kmax.training import checkpoint
from kmax.training.loop import train_run

ROOT = Path(__file__).resolve().parents[3]
RUN = "little"
MACHINE = ("KMAX_RANKS", "KMAX_MICRO_BATCHES", "KMAX_WORKERS", "KMAX_TIME_BUDGET", "KMAX_DATA_ROOT")


@dataclass(frozen=True)
class Result:
    """Outputs of a training: the weight file bit for bit, and the history without its column of seconds."""

    weights: bytes
    history: list[list[str]]


@dataclass(frozen=True)
class Project:
    """A project folder, the current one."""

    folder: Path

    def train(self, **options: Any) -> None:
        train_run(load_run(RUN), **options)

    def result(self) -> Result:
        rows = [line.split(",")[:-1] for line in paths.history(RUN).read_text().splitlines()]
        return Result(paths.model(RUN).read_bytes(), rows)

    @property
    def state(self) -> Path:
        return identify(load_run(RUN)).state

    def checkpoints(self) -> list[Path]:
        return checkpoint.checkpoints(self.state)

    def change(self, section: str, **changes: Any) -> None:
        """Change parameters in one section of the run file (`losses` is the one inside `train`)."""
        run = yaml.safe_load(paths.family_file(RUN).read_text())["runs"][RUN]
        (run["train"]["losses"] if section == "losses" else run[section]).update(changes)
        params = self.folder / "params"
        if params.is_symlink():
            original = params.resolve()
            params.unlink()
            (params / "runs").mkdir(parents=True)
            (params / "datasets").symlink_to(original / "datasets")
        write_run(Path(), RUN, run)


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with params/ and prepared data."""
    folder = tmp_path_factory.mktemp("source")
    dataset = yaml.safe_load((ROOT / "params/datasets/shapes_smoke.yaml").read_text())
    dataset["dataset"] = "few"
    dataset["source"]["image_size"] = [32, 32]
    dataset["source"]["images"] = {"train": 10, "val": 2}
    run = sections("shapes-smoke")
    run["data"] |= {"dataset": "few", "image_size": [33, 33]}
    run["model"] |= {"drop_path": 0.2}  # so that the network draws random numbers too
    run["train"] |= {
        "steps": 6,
        "global_batch_size": 4,
        "warmup_steps": 2,
        "checkpoint_every": 2,
        "log_every": 2,
    }
    run["train"] |= {"ema_decay": 0.5}
    run["train"]["losses"] |= {"sample_k": 100}
    path = folder / "params/datasets/few.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(dataset))
    write_run(folder, RUN, run)
    with inside(folder):
        download("few")
        prepare("few")
    return folder


def make_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, no tracking server, nothing of the caller's environment."""
    for variable in (*MACHINE, *(name for name in os.environ if name.startswith("SLURM_"))):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("KMAX_TRACKING", "off")


@pytest.fixture(autouse=True)
def plain_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    make_plain(monkeypatch)


def open_project(source: Path, folder: Path) -> Project:
    """A new folder with the parameters and data of `source`."""
    for name in ("params", "data"):
        (folder / name).symlink_to(source / name)
    return Project(folder)


@pytest.fixture
def project(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return open_project(source, tmp_path)


@pytest.fixture(scope="session")
def uninterrupted(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The result of the run, trained without interruption."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as monkeypatch, inside(folder):
        make_plain(monkeypatch)
        whole = open_project(source, folder)
        whole.train()
        return whole.result()
