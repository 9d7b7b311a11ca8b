"""A disk that fails at any write: one line, nothing half-written, and the same command then completes."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import ROOT, change, write_project
from failing_disk import Answer, FailingDisk
from users import require_root

# Verbs in their order: each starts from the project that the earlier ones leave.
VERBS = {
    "prepare": ["data", "prepare", "shapes_mini"],
    "train": ["train", "shapes-mini"],
    "predict": ["predict", "shapes-mini"],
    "evaluate": ["evaluate", "shapes-mini"],
    "port": ["port", "shapes-ported"],
    "report": ["report", "mini"],
}
OUTPUTS = ("data", "results", "reports")
IN_CI, ALL = 2, 30
REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is exceeded",
    errno.EIO: "error of the disk",
}
NO_REASON = "is the disk full?"  # torch does not pass on the system's error


class Projects:
    """For each verb the project before it and the outputs after it, on a disk that may fail."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.disk = FailingDisk(folder)
        self.writes: dict[str, int] = {}
        self.outputs: dict[str, dict[str, str]] = {}
        self.project = _write_project(folder / "project")
        self._call("data", "download", "shapes_mini")

    def before(self, verb: str) -> Path:
        """A new copy of the project as it is before the verb."""
        for one, arguments in VERBS.items():
            if one not in self.outputs:
                if one == "port":
                    self._call("weights", "fetch", "start")
                self._copy(self.project, self.folder / f"before-{one}")
                self.writes[one] = self._call(*arguments).writes
                self.outputs[one] = contents(self.project)
            if one == verb:
                break
        return self._copy(self.folder / f"before-{verb}", self.folder / "trial")

    def growth(self, verb: str) -> int:
        """Kibibytes that the verb adds to the project, with its state."""
        after = [one for one in VERBS if one in self.outputs]
        following = after[after.index(verb) + 1 :]
        later = self.folder / f"before-{following[0]}" if following else self.project
        return (_size(later) - _size(self.folder / f"before-{verb}")) // 1024

    def _call(self, *arguments: str) -> Answer:
        answer = self.disk.call(self.project, *arguments)
        assert answer.code == 0, f"kmax {' '.join(arguments)}: {answer.err}"
        return answer

    @staticmethod
    def _copy(source: Path, target: Path) -> Path:
        shutil.rmtree(target, ignore_errors=True)
        return Path(shutil.copytree(source, target, ignore=shutil.ignore_patterns("checkpoint-*")))


def _write_project(folder: Path) -> Path:
    """The small project, with a run that is ported from the weights of the other, and with tables."""
    write_project(folder)
    for name in ("tables.yaml", "reference.csv"):
        shutil.copy(ROOT / "params" / name, folder / "params" / name)
    entry = (
        "{description: of the other run, path: results/shapes-mini/model.safetensors, format: safetensors}"
    )
    (folder / "params/weights.yaml").write_text(f"weights: {{start: {entry}}}\n")

    def port(content: dict) -> None:
        run = {key: value for key, value in content["runs"]["shapes-mini"].items() if key != "train"}
        run |= {"port": {"weights": "start", "source": "safetensors"}, "description": "ported"}
        content["runs"]["shapes-ported"] = run

    change(folder / "params/runs/mini.yaml", port)
    return folder


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def contents(project: Path) -> dict[str, str]:
    """Digest of each output by its name, without times."""
    found = {}
    for path in (path for folder in OUTPUTS for path in (project / folder).rglob("*")):
        name = path.relative_to(project)
        if not path.is_file() or any(part.startswith(".") for part in name.parts):
            continue
        data = path.read_bytes()
        if path.name == "history.csv":
            rows = list(csv.DictReader(io.StringIO(data.decode())))
            data = repr(
                [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
            ).encode()
        found[name.as_posix()] = hashlib.sha256(data).hexdigest()
    return found


def leftovers(project: Path) -> list[str]:
    """Temporary files and folders beside the outputs."""
    found = (path for folder in OUTPUTS for path in (project / folder).rglob(".*"))
    return [str(path) for path in found if path.suffix in (".tmp", ".old")]


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Projects]:
    made = Projects(tmp_path_factory.mktemp("disk"))
    yield made
    made.disk.close()


def places(writes: int, count: int, seed: str) -> list[int]:
    """`count` of the numbers 1 to `writes`, spread over all; with the first and last if there are many."""
    numbers = random.Random(seed)
    edges = [1, 2, writes - 1, writes] if count > 4 else []
    parts = count - len(edges)
    inner = {1 + int((part + numbers.random()) * writes / parts) for part in range(parts)}
    return sorted({*edges, *inner})


def check(projects: Projects, verb: str, at: int, *, once: bool = False, error: int = errno.ENOSPC) -> None:
    """The verb while the disk fails from write `at` on, and once more after that."""
    trial, expected = projects.before(verb), projects.outputs[verb]
    before = contents(trial)
    failed = projects.disk.call(trial, *VERBS[verb], at=at, once=once, error=error)
    what = f"{verb}, write {at} of {projects.writes[verb]}: exit {failed.code}\n{failed.err}"
    check_failed(failed, trial, before, expected, REASONS[error], what)
    again = projects.disk.call(trial, *VERBS[verb])
    assert again.code == 0, f"does not complete afterwards: {what}\n{again.err}"
    assert contents(trial) == expected, f"the result is another one afterwards: {what}"


def check_failed(
    failed: Answer, trial: Path, before: dict[str, str], expected: dict[str, str], reason: str, what: str
) -> None:
    """One line with the reason and the place, and each output as it was before or as it should become."""
    assert failed.code is not None, f"does not end: {what}"
    assert not failed.survivors, f"leaves a process: {what}"
    assert "Traceback" not in failed.err, what
    assert leftovers(trial) == [], what
    for name, digest in contents(trial).items():
        assert digest in (before.get(name), expected.get(name)), f"{name} is incomplete: {what}"
    if failed.code == 0:
        assert contents(trial) == expected, f"incomplete without an error: {what}"
    else:
        assert failed.code == 2, what
        lines = [line for line in failed.err.splitlines() if line.startswith("kmax: ")]
        assert len(lines) == 1, what
        assert re.match(r"kmax: [^ ]*/[^ ]*: ", lines[0]), f"does not say where: {what}"
        assert reason in lines[0] or NO_REASON in lines[0], f"does not say what: {what}"


def check_small(projects: Projects, verb: str, share: float) -> None:
    """The verb on a real file system that has this share of the space it needs, and once more after that."""
    projects.before(verb)
    source, trial = projects.folder / f"before-{verb}", projects.folder / "small"
    trial.mkdir(exist_ok=True)
    expected = projects.outputs[verb]
    mount = ["mount", "-t", "tmpfs", "none", str(trial), "-o"]
    subprocess.run([*mount, "size=1g"], check=True)
    try:
        shutil.copytree(source, trial, dirs_exist_ok=True, ignore=shutil.ignore_patterns("checkpoint-*"))
        used = kilobytes(trial)
        size = used + int(share * projects.growth(verb))
        subprocess.run(["mount", "-o", f"remount,size={size}k", trial], check=True)
        before = contents(trial)
        failed = projects.disk.call(trial, *VERBS[verb])
        what = (
            f"{verb}, {size} KiB for {used} and {share:.3f} of the growth: exit {failed.code}\n{failed.err}"
        )
        check_failed(failed, trial, before, expected, REASONS[errno.ENOSPC], what)
        subprocess.run(["mount", "-o", "remount,size=1g", trial], check=True)
        again = projects.disk.call(trial, *VERBS[verb])
        assert again.code == 0, f"does not complete afterwards: {what}\n{again.err}"
        assert contents(trial) == expected, f"the result is another one afterwards: {what}"
    finally:
        subprocess.run(["umount", "--lazy", trial], check=True)


def kilobytes(folder: Path) -> int:
    """Space in use on the file system of a folder."""
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize // 1024


@pytest.mark.parametrize("verb", VERBS)
def test_a_disk_that_fills_at_any_write_costs_one_attempt(projects: Projects, verb: str) -> None:
    projects.before(verb)
    for at in places(projects.writes[verb], IN_CI, verb):
        check(projects, verb, at)


@pytest.mark.long
@pytest.mark.parametrize("verb", VERBS)
def test_a_disk_that_fills_at_many_writes_costs_one_attempt(projects: Projects, verb: str) -> None:
    projects.before(verb)
    for at in places(projects.writes[verb], ALL, f"all of {verb}"):
        check(projects, verb, at)


@pytest.mark.long
@pytest.mark.parametrize("error", [errno.EDQUOT, errno.EIO], ids=os.strerror)
@pytest.mark.parametrize("verb", VERBS)
def test_a_single_failed_write_costs_one_attempt(projects: Projects, verb: str, error: int) -> None:
    projects.before(verb)
    for at in places(projects.writes[verb], ALL // 3, f"{error} of {verb}"):
        check(projects, verb, at, once=True, error=error)


@pytest.mark.parametrize(
    ("verb", "share"),
    [
        ("predict", 0.4),
        *(
            pytest.param(verb, (part + 0.5) / ALL, marks=pytest.mark.long)
            for verb in VERBS
            for part in range(ALL)
        ),
    ],
)
def test_a_small_file_system_costs_one_attempt(projects: Projects, verb: str, share: float) -> None:
    require_root()
    check_small(projects, verb, share)
