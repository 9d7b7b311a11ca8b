"""The real command line, as another process, on a scratch project whose run trains in seconds."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]


def change(path: Path, edit: Callable[[Any], None]) -> None:
    """Edit a YAML file in place."""
    content = yaml.safe_load(path.read_text())
    edit(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def write_project(folder: Path) -> Path:
    """A project with the dataset `shapes_mini` and the run `shapes-mini`, both very small."""
    for name in ("datasets", "runs"):
        (folder / "params" / name).mkdir(parents=True)
    shutil.copy(ROOT / "params/datasets/shapes_smoke.yaml", folder / "params/datasets/shapes_mini.yaml")
    shutil.copy(ROOT / "params/runs/shapes-smoke.yaml", folder / "params/runs/shapes-mini.yaml")
    (folder / "params/weights.yaml").write_text("weights: {}\n")

    def mini(content: Any) -> None:
        content["dataset"] = "shapes_mini"
        content["source"] |= {"image_size": [64, 64], "images": {"train": 4, "val": 2}}

    def short(content: Any) -> None:
        content["run"] = "shapes-mini"
        content["data"] |= {"dataset": "shapes_mini", "image_size": [65, 65]}
        content["model"]["num_clusters"] = 4
        content["train"] |= {"steps": 2, "global_batch_size": 2, "checkpoint_every": 1, "log_every": 1}
        content["train"]["warmup_steps"] = 1
        content["predict"] |= {"batch_size": 2, "pictures": 1}
        content["evaluate"]["bootstrap_samples"] = 10

    change(folder / "params/datasets/shapes_mini.yaml", mini)
    change(folder / "params/runs/shapes-mini.yaml", short)
    return folder


def environment(**more: str) -> dict[str, str]:
    """Of the command in tests: one thread, no MLflow."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KMAX_", "MLFLOW_"))}
    return {**kept, "OMP_NUM_THREADS": "1", "KMAX_TRACKING": "off", "PYTHONWARNINGS": "ignore", **more}


def heed_interrupts() -> None:
    """Shells start background jobs with Ctrl-C ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def run_kmax(folder: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Call the command line in `folder`, as another process."""
    return subprocess.run(
        [sys.executable, "-m", "kmax.cli.main", *arguments],
        cwd=folder,
        env=environment(**options.pop("env", {})),
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=options.pop("before", heed_interrupts),
        **options,
    )


def tree(folder: Path) -> set[str]:
    """All files below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def kmax_popen(folder: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """Start the command line in `folder`, to be interrupted."""
    return subprocess.Popen(
        [sys.executable, "-m", "kmax.cli.main", *arguments],
        cwd=folder,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until something is true; the process must still run then."""
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "waited two minutes in vain"
        time.sleep(0.02)


def is_one_line(answer: subprocess.CompletedProcess[str]) -> bool:
    """Whether stderr ends with one line of the command's own and no traceback."""
    own = [line for line in answer.stderr.splitlines() if line.startswith("kmax: ")]
    return len(own) == 1 and "Traceback" not in answer.stderr
