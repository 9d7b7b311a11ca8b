"""Verbs that run until they are ended, with all processes that they start.

`PYTHONPATH=tests:tests/unit/cli python tests/unit/cli/process_families.py` prints the seconds that every verb
takes to end after SIGTERM and SIGKILL to each kind of its processes.
"""

import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from commandline import STAGES, Command, change, change_run, run_kmax, write_project

END_SECONDS = 10.0
NEVER = 100_000
VERBS = {
    "train": ("train", "shapes-mini"),
    "predict": ("predict", "shapes-mini"),
    "evaluate": ("evaluate", "shapes-mini"),
    "prepare": ("data", "prepare", "shapes_many"),
    "predict-images": (
        *("predict-images", "data/prepared/shapes_mini/images_val/000000.png", "--out", "pictures"),
        *("--weights", "results/shapes-mini/model.safetensors"),
    ),
}


def endless() -> None:
    """In the command: two worker processes, and stages that take as long as the test needs."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    import kmax.evaluation.workers
    import kmax.inference.predict_images
    import kmax.inference.prediction_stage
    import kmax.processes.parallel

    def slowly(*arguments: Any, **named: Any) -> Any:
        Path("reached").touch()
        time.sleep(NEVER)

    kmax.processes.parallel.available_cpus = lambda: 2  # type: ignore[attr-defined]
    kmax.evaluation.workers.bounded_workers = lambda *_: 2
    kmax.processes.parallel._apply = slowly
    kmax.inference.prediction_stage.segment_images = slowly
    kmax.inference.predict_images.segment_images = slowly


def children(pid: int) -> list[int]:
    """Process ids of the children, the oldest first."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(folder.name))
    return sorted(found)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def called(pid: int, part: str) -> bool:
    try:
        return part in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


class Family:
    """A running verb and all processes that it has started."""

    def __init__(self, folder: Path, verb: str, ranks: int = 1, **env: str) -> None:
        more = {"KMAX_WORKERS": "2", "KMAX_RANKS": str(ranks), **env}
        self.command = Command(folder, *VERBS[verb], before=endless, **more)
        self.ranks = ranks
        self.needs_workers = verb != "predict-images"
        (folder / "reached").unlink(missing_ok=True)
        self.command.wait_for(self.is_complete)
        if verb == "train":
            checkpoints = folder / "runs/shapes-mini"
            self.command.wait_for(lambda: len(list(checkpoints.rglob("checkpoint-*.pt"))) > 1)
        else:
            self.command.wait_for((folder / "reached").exists)

    def is_complete(self) -> bool:
        """Whether all workers and ranks have started; notes who they are."""
        self.main = self.command.process.pid
        below = children(self.main)
        self.mirrors = [pid for pid in below if called(pid, "mirror_process")]
        started = [pid for pid in below if called(pid, "spawn_main")]
        computing = started if self.ranks > 1 else [self.main]
        self.workers = [
            pid
            for parent in computing
            for pid in children(parent)
            if pid not in started and not called(pid, "mirror_process")
        ]
        self.helpers = [pid for pid in below if called(pid, "resource_tracker")]
        self.workers = [pid for pid in self.workers if pid not in self.helpers]
        for rank in started:
            self.mirrors += [pid for pid in children(rank) if called(pid, "mirror_process")]
        self.started = started
        expected = 2 * self.ranks if self.needs_workers else 0
        return len(self.workers) == expected and len(started) == (self.ranks if self.ranks > 1 else 0)

    def one(self, kind: str) -> int:
        """One process of a kind; the last one, since the first may have a special role."""
        return {"main": [self.main], "worker": self.workers, "rank": self.started, "mirror": self.mirrors}[
            kind
        ][-1]

    def seconds_to_end(self, limit: float = END_SECONDS) -> float:
        """Seconds until no process of the family is left."""
        begun = time.monotonic()
        everyone = [self.main, *self.workers, *self.started, *self.mirrors, *self.helpers]
        while any(map(is_alive, everyone)):
            if time.monotonic() > begun + limit:
                left = [pid for pid in everyone if is_alive(pid)]
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
                raise AssertionError(f"{len(left)} of {len(everyone)} processes are left after {limit} s")
            time.sleep(0.02)
        return time.monotonic() - begun


def endless_project(folder: Path) -> Path:
    """Change a finished project so that every verb has a lot to do."""
    shutil.copy(folder / "params/datasets/shapes_mini.yaml", folder / "params/datasets/shapes_many.yaml")

    def many(content: Any) -> None:
        content["dataset"] = "shapes_many"
        content["source"]["images"] = {"train": NEVER, "val": 2}

    change(folder / "params/datasets/shapes_many.yaml", many)
    answer = run_kmax(folder, "data", "download", "shapes_many")
    assert answer.returncode == 0, answer.stderr
    return folder


def prepare_for(verb: str, folder: Path) -> None:
    """Remove what a verb would find finished; only the training has other parameters than before."""
    change_run(folder, lambda run: run["train"].update(steps=NEVER if verb == "train" else 2))
    if verb != "evaluate":
        shutil.rmtree(folder / "results/shapes-mini/predictions", ignore_errors=True)
    for work in folder.glob("runs/shapes-mini/*/predictions-*"):
        shutil.rmtree(work)


KINDS = {
    ("train", 1): ("main", "worker", "mirror"),
    ("train", 2): ("main", "worker", "rank", "mirror"),
    ("predict", 1): ("main", "worker", "mirror"),
    ("evaluate", 1): ("main", "worker", "mirror"),
    ("prepare", 1): ("main", "worker"),
    ("predict-images", 1): ("main",),
}


def print_table() -> None:
    """Print the seconds until all processes have ended, for every verb, process and signal."""
    folder = write_project(Path(tempfile.mkdtemp()) / "project")
    for stage in STAGES[:-1]:
        answer = run_kmax(folder, *stage)
        assert answer.returncode == 0, answer.stderr
    whole = shutil.copytree(endless_project(folder), folder.parent / "whole")
    print(
        "| verb | ranks | process | signal | seconds | exit code | last line |\n|---|---|---|---|---|---|---|"
    )
    for (verb, ranks), kinds in KINDS.items():
        for kind in kinds:
            for number in (signal.SIGTERM, signal.SIGKILL):
                shutil.rmtree(folder)
                shutil.copytree(whole, folder)
                cells = [verb, str(ranks), kind, number.name, *measure(folder, verb, ranks, kind, number)]
                print(f"| {' | '.join(cells)} |", flush=True)
    shutil.rmtree(folder.parent)


def measure(folder: Path, verb: str, ranks: int, kind: str, number: signal.Signals) -> tuple[str, str, str]:
    """The seconds, the exit code and the last line after a signal to one process."""
    prepare_for(verb, folder)
    family = Family(folder, verb, ranks, KMAX_TRACKING="on")
    if "mirror" in KINDS[verb, ranks]:
        family.command.wait_for(lambda: family.is_complete() and family.mirrors)
        time.sleep(3)  # so that MLflow is loaded
    os.kill(family.one(kind), number)
    try:
        seconds = f"{family.seconds_to_end(30):.1f}"
    except AssertionError as error:
        seconds = f"({error})"
    answer = family.command.result()
    lines = [line for line in answer.stderr.splitlines() if line.startswith("kmax:")]
    return seconds, str(answer.returncode), (lines or [""])[-1][:150]


if __name__ == "__main__":
    print_table()
