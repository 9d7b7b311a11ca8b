"""Read-only media: verbs that read work, verbs that write say so before the work, and what to change."""

import os
import subprocess
from functools import partial
from pathlib import Path

import pytest
from commandline import is_one_line, run_kmax
from users import make_read_only, require_root

from kmax.errors import InputError
from kmax.files import exclusive_lock

READING = {
    "check": ["data", "check", "shapes_mini"],
    "show": ["params", "show", "shapes-mini"],
    "compare": ["compare", "shapes-mini", "shapes-mini"],
}
WRITING = {
    "download": (["data", "download", "shapes_mini"], "data"),
    "prepare": (["data", "prepare", "shapes_mini"], "data"),
    "train": (["train", "shapes-mini"], "runs"),
    "predict": (["predict", "shapes-mini"], "runs"),
    "evaluate": (["evaluate", "shapes-mini"], "runs"),
    "benchmark": (["benchmark", "shapes-mini"], "runs"),
}


@pytest.fixture(autouse=True)
def root() -> None:
    """All of these tests mount folders."""
    require_root()


@pytest.mark.parametrize("verb", READING)
def test_verbs_that_read_work_in_a_read_only_project(finished: Path, verb: str) -> None:
    answer = run_kmax(finished, *READING[verb], before=partial(make_read_only, finished))
    assert answer.returncode == 0, answer.stderr
    assert "warning" not in answer.stderr


@pytest.mark.parametrize("verb", WRITING)
def test_verbs_that_write_say_what_to_change_in_a_read_only_project(finished: Path, verb: str) -> None:
    arguments, folder = WRITING[verb]
    answer = run_kmax(finished, *arguments, before=partial(make_read_only, finished))
    assert answer.returncode == 2
    assert is_one_line(answer), answer.stderr
    reason = f"cannot be written: the file system is read-only; make '{folder}' a link to a folder that can"
    assert reason in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [(["predict", "shapes-mini"], "results"), (["evaluate", "shapes-mini"], "reports")],
    ids=["predict", "evaluate"],
)
def test_read_only_outputs_are_reported_before_the_work(
    copy: Path, arguments: list[str], folder: str
) -> None:
    events = next((copy / "runs").rglob("events.jsonl"))
    before = events.read_bytes()
    answer = run_kmax(copy, *arguments, before=partial(make_read_only, copy / folder))
    assert answer.returncode == 2
    assert is_one_line(answer), answer.stderr
    assert f"make '{folder}' a link" in answer.stderr
    assert events.read_bytes() == before, "the stage had started"


@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_stages_need_no_home_and_only_read_their_data_and_weights(
    copy: Path, tmp_path: Path, verb: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    folders = [copy / "data", home] + ([] if verb == "predict" else [copy / "results"])
    variables = {name: str(home) for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TORCH_HOME")}
    answer = run_kmax(copy, verb, "shapes-mini", before=partial(make_read_only, *folders), **variables)
    assert answer.returncode == 0, answer.stderr
    assert "arning" not in answer.stderr


def mount_small_disk(folder: Path) -> None:
    """Mount an empty file system of 64 KiB."""
    make_read_only()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], check=True)


def test_a_full_file_system_is_named(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    arguments = ["data", "show", "shapes_mini", "--out", str(out)]
    answer = run_kmax(finished, *arguments, before=partial(mount_small_disk, tmp_path))
    assert answer.returncode == 2
    assert is_one_line(answer), answer.stderr
    assert f"{out}: cannot be written: the disk is full: free some space" in answer.stderr


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, os.strerror(37))

    monkeypatch.setattr("kmax.files.fcntl.flock", refuse)
    reason = r"lock: the file system does not support file locks .*: mount it"
    with pytest.raises(InputError, match=reason), exclusive_lock(tmp_path / "lock", "held"):
        pass
