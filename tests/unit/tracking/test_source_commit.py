"""The commit is the project folder's, and an unknown one is never silent."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from kmax.cli.main import call
from kmax.runs import source_commit as module
from kmax.runs.source_commit import commit, source_commit
from kmax.tracking.tracker import track

GIT = ["git", "-c", "user.name=n", "-c", "user.email=e@localhost", "-c", "protocol.file.allow=always"]


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run([*GIT, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(project: Path) -> Path:
    """The project folder as a git repository with one commit."""
    git(project, "init", "--quiet")
    git(project, "add", "params")
    git(project, "commit", "--quiet", "--message", "m")
    return project


def program(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program named git first on PATH."""
    folder.mkdir()
    path = folder / "git"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_a_repository_of_another_owner_is_reported_with_the_command_that_trusts_it(
    repository, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # as git's own tests do
    monkeypatch.setattr("kmax.cli.doctor._import_fault", lambda name: None)
    found = source_commit()
    assert found.name == "unknown"
    assert f"detected dubious ownership in repository at '{repository}'" in found.reason
    assert f"git config --global --add safe.directory '{repository}'" in found.advice
    assert call(["doctor"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line[10:].startswith("git "))
    assert not line.startswith("ok")
    assert "dubious ownership" in line


def test_no_git_is_reported(repository, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert source_commit().reason == "git cannot be run: No such file or directory"


def test_a_folder_outside_of_git_is_reported(project) -> None:
    assert source_commit().reason.startswith("git: fatal: not a git repository")


def test_a_repository_without_commits_is_reported(project) -> None:
    git(project, "init", "--quiet")
    assert source_commit().reason == "git: fatal: Needed a single revision"


def test_a_bare_repository_is_reported(repository, tmp_path_factory, monkeypatch) -> None:
    bare = tmp_path_factory.mktemp("bare")
    git(repository, "clone", "--quiet", "--bare", str(repository), str(bare))
    monkeypatch.chdir(bare)
    assert source_commit().reason == "git: fatal: this operation must be run in a work tree"


def test_a_broken_repository_is_reported(repository) -> None:
    (repository / ".git/index").write_bytes(b"DIRC" + bytes(40))
    assert source_commit().reason.startswith("git: ")
    assert commit() == "unknown"


def test_shallow_clones_and_submodules_have_their_own_commit(
    repository, tmp_path_factory, monkeypatch
) -> None:
    head = git(repository, "rev-parse", "HEAD")
    outer = tmp_path_factory.mktemp("outer")
    git(outer, "init", "--quiet")
    git(outer, "submodule", "--quiet", "add", str(repository), "inner")
    git(outer, "clone", "--quiet", "--depth", "1", repository.as_uri(), "shallow")
    for name in ("inner", "shallow"):
        monkeypatch.chdir(outer / name)
        assert commit() == head


def test_variables_that_name_another_repository_are_ignored(
    repository, tmp_path_factory, monkeypatch
) -> None:
    head = commit()
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "--quiet")
    git(other, "commit", "--quiet", "--allow-empty", "--message", "other")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert commit() == head


def test_a_git_that_hangs_is_ended_with_its_children_and_not_called_again(
    repository, monkeypatch, tmp_path_factory
) -> None:
    program(tmp_path_factory.mktemp("hangs") / "bin", "sleep 100 & echo $! > pid; wait", monkeypatch)
    monkeypatch.setattr(module, "GIT_SECONDS", 0.5)
    monkeypatch.setattr(module, "_timed_out", set())
    begin = time.monotonic()
    assert "did not end within" in source_commit().reason
    assert time.monotonic() - begin < 10
    child = Path("pid").read_text().strip()
    Path("pid").unlink()
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"
    assert "did not end within" in source_commit().reason
    assert not Path("pid").exists()


def test_remotes_with_passwords_are_not_shown(repository, monkeypatch, tmp_path_factory) -> None:
    error = "echo 'fatal: unable to access https://user:S3cretPw@host/x.git/' >&2; exit 128"
    program(tmp_path_factory.mktemp("fails") / "bin", error, monkeypatch)
    assert source_commit().reason == "git: fatal: unable to access https://host/x.git/"


def test_a_stage_warns_once_and_only_if_the_commit_is_unknown(run, monkeypatch, capfd) -> None:
    monkeypatch.setenv("KMAX_TRACKING", "off")
    with track(run, "benchmark"):
        pass
    assert capfd.readouterr().err == ""  # no repository, so there is no commit to record
    Path(".git").write_text("gitdir: /nowhere\n")
    with track(run, "benchmark"):
        pass
    warning = "warning: the commit of this folder is recorded as 'unknown': git: "
    assert capfd.readouterr().err.count(warning) == 1
    Path(".git").unlink()
    git(Path.cwd(), "init", "--quiet")
    git(Path.cwd(), "commit", "--quiet", "--allow-empty", "--message", "m")
    with track(run, "benchmark"):
        pass
    assert capfd.readouterr().err == ""
