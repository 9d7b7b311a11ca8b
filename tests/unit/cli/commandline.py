"""The real command line, as another process, on a scratch project whose run trains in seconds."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from run_entries import sections, write_run

from kmax.cli.main import main

FAMILY = "params/runs/mini.yaml"
STAGES = [
    ["data", "download", "shapes_mini"],
    ["data", "prepare", "shapes_mini"],
    ["train", "shapes-mini"],
    ["predict", "shapes-mini"],
    ["evaluate", "shapes-mini"],
    ["benchmark", "shapes-mini"],
]
ROOT = Path(__file__).resolve().parents[3]
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "commandline",
        "kmax.training.loop",
        "kmax.inference.predict_images",
        "kmax.inference.benchmark",
        "kmax.evaluation.run.evaluation_stage",
    ]
)


def change(path: Path, edit: Callable[[Any], None]) -> None:
    """Edit a YAML file in place."""
    content = yaml.safe_load(path.read_text())
    edit(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def change_run(folder: Path, edit: Callable[[Any], None]) -> None:
    """Edit the run `shapes-mini` of the project."""
    change(folder / FAMILY, lambda content: edit(content["runs"]["shapes-mini"]))


def write_project(folder: Path) -> Path:
    """A project with the dataset `shapes_mini` and the run `shapes-mini`, both very small."""
    (folder / "params/datasets").mkdir(parents=True)
    shutil.copy(ROOT / "params/datasets/shapes_smoke.yaml", folder / "params/datasets/shapes_mini.yaml")
    (folder / "params/weights.yaml").write_text("weights: {}\n")
    family = write_run(folder, "shapes-mini", sections("shapes-smoke"), family="mini")
    change(family, lambda content: content.update(default=True))

    def mini(content: Any) -> None:
        content["dataset"] = "shapes_mini"
        content["source"] |= {"image_size": [64, 64], "images": {"train": 4, "val": 2}}

    def short(content: Any) -> None:
        content["data"] |= {"dataset": "shapes_mini", "image_size": [65, 65]}
        content["model"]["num_clusters"] = 4
        content["train"] |= {"steps": 2, "global_batch_size": 2, "checkpoint_every": 1, "log_every": 1}
        content["train"]["warmup_steps"] = 1
        content["predict"] |= {"batch_size": 2, "pictures": 1}
        content["evaluate"]["bootstrap_samples"] = 10

    change(folder / "params/datasets/shapes_mini.yaml", mini)
    change_run(folder, short)
    return folder


def environment(**more: str) -> dict[str, str]:
    """Of the command in tests: one thread, no MLflow."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KMAX_", "MLFLOW_"))}
    return {**kept, "OMP_NUM_THREADS": "1", "KMAX_TRACKING": "off", "PYTHONWARNINGS": "ignore", **more}


def heed_interrupts() -> None:
    """Shells start background jobs with Ctrl-C ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def run_python(folder: Path, code: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in `folder`, in a new interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=300,
    )


class Command:
    """The command line in a separate process, forked from one that has already imported torch.

    Args:
        folder: to call it in.
        arguments: after `kmax`.
        before: called in the process before the command.
        env: additions to its environment.
    """

    def __init__(
        self, folder: Path, *arguments: str, before: Callable[[], None] = heed_interrupts, **env: str
    ) -> None:
        self.output = Path(tempfile.mkdtemp(prefix="kmax-test-"))
        self.arguments = arguments
        self.process = FORKS.Process(
            target=_command, args=(folder, arguments, environment(**env), self.output, before)
        )
        self.process.start()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, as a terminal or a scheduler does."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def is_running(self) -> bool:
        """Whether it is still running."""
        return self.process.is_alive()

    def result(self) -> subprocess.CompletedProcess[str]:
        """Wait for the end."""
        self.process.join(300)
        assert self.process.exitcode is not None, f"{self.arguments}: does not end"
        out, err = ((self.output / name).read_text() for name in ("out", "err"))
        shutil.rmtree(self.output)
        return subprocess.CompletedProcess(self.arguments, self.process.exitcode, out, err)

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait until something is true, which must come true while the command runs."""
        end = time.monotonic() + 200
        while not condition():
            assert self.is_running(), self.result()
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)


def _command(
    folder: Path,
    arguments: tuple[str, ...],
    variables: dict[str, str],
    output: Path,
    before: Callable[[], None],
) -> None:
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(output / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    warnings.simplefilter("ignore")
    before()
    try:
        main(arguments)
    except Exception:  # as an interpreter does it; multiprocessing prints the traceback by itself
        sys.excepthook(*sys.exc_info())
        sys.exit(1)


def run_kmax(
    folder: Path, *arguments: str, before: Callable[[], None] = heed_interrupts, **env: str
) -> subprocess.CompletedProcess[str]:
    """Call the command line in `folder`, and wait for its end."""
    return Command(folder, *arguments, before=before, **env).result()


def tree(folder: Path) -> set[str]:
    """All files below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def is_one_line(answer: subprocess.CompletedProcess[str]) -> bool:
    """Whether stderr ends with one error line of the command, without a traceback."""
    own = [line for line in answer.stderr.splitlines() if line.startswith("kmax: ")]
    return len(own) == 1 and "Traceback" not in answer.stderr
