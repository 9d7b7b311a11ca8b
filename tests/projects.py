"""Copies of this project in other folders, to run the engines there with the real verbs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from run_entries import sections

from kmax import create_model, files
from kmax.data.dataset_file import load_dataset
from kmax.model.io import save_model

ROOT = Path(__file__).resolve().parents[1]
PARTS = [
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvcignore",
    ".gitignore",
    "Snakefile",
    "dvc.yaml",
    "params",
    "workflow",
]
PARTS += ["slurm", "profiles", "kmax/evaluator_version.py"]
SMOKE = "workflow/pipelines/smoke/dvc.yaml"
FINETUNED, PORTED, WEIGHTS = "shapes-smoke-finetuned", "shapes-smoke-ported", "smoke_start"
RUNS_FROM_WEIGHTS = f"""
  {FINETUNED}:
    description: two steps from given weights
    data: *data
    model: *model
    train: {{<<: *train, weights: {WEIGHTS}, steps: 2, warmup_steps: 1}}
    predict: *predict
    evaluate: *evaluate

  {PORTED}:
    description: given weights as they are
    data: *data
    model: *model
    port: {{weights: {WEIGHTS}, source: safetensors}}
    predict: *predict
    evaluate: *evaluate
"""


def copy_project(folder: Path) -> Path:
    """What the engines need of this project, in a new git repository at `folder`."""
    for part in PARTS:
        source, target = ROOT / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(os.readlink(source))
        elif source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("dvc.lock"))
        else:
            shutil.copy(source, target)
    run(folder, "git", "init", "--quiet")
    commit(folder, "Start")
    return folder


def commit(project: Path, message: str) -> None:
    """Commit everything that git does not ignore."""
    run(project, "git", "add", "--all")
    author = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]
    run(project, "git", *author, "commit", "--quiet", "--message", message)


def environment() -> dict[str, str]:
    """The environment of the engines: this Python's programs first, no mirror of the events."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "KMAX_TRACKING": "off", "NO_COLOR": "1"}


def run(project: Path, *command: str, check: bool = True, env: dict[str, str] | None = None) -> str:
    """What a command in the project prints to both streams; a failure shows it."""
    answer = subprocess.run(
        command,
        cwd=project,
        env=environment() | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if check and answer.returncode != 0:
        raise AssertionError(f"{' '.join(command)} ended with {answer.returncode}:\n{answer.stdout[-6000:]}")
    return answer.stdout


def edit(path: Path, old: str, new: str) -> None:
    """Replace text that must be there."""
    text = path.read_text()
    assert old in text, f"{path} does not contain {old!r}"
    path.write_text(text.replace(old, new))


def add_runs_from_weights(project: Path) -> None:
    """Give the family `smoke` a run that is trained from fetched weights and one that is ported from them."""
    smoke = sections("shapes-smoke")
    start = project / "start.safetensors"
    arguments = {name: value for name, value in smoke["model"].items() if name != "name"}
    categories = load_dataset("shapes_smoke").categories
    assert categories is not None
    size = tuple(smoke["data"]["image_size"])
    model = create_model(smoke["model"]["name"], num_classes=len(categories), image_size=size, **arguments)
    save_model(model, start, categories)
    entry = {"description": "random weights", "path": start.name, "sha256": files.sha256(start)}
    weights = {"weights": {WEIGHTS: entry | {"format": "safetensors"}}}
    (project / "params/weights.yaml").write_text(yaml.safe_dump(weights))

    with open(project / "params/runs/smoke.yaml", "a") as file:
        file.write(RUNS_FROM_WEIGHTS)
    run(project, "kmax", "pipelines")
    commit(project, "Runs from weights")
