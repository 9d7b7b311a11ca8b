"""The commit of the project folder, which results record, or why git does not state it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from kmax.display import one_line
from kmax.urls import without_credentials

UNKNOWN = "unknown"
GIT_SECONDS = 20.0
REASON_LENGTH = 200  # characters
NO_REPOSITORY = "not a git repository (or any"  # of git's message; a broken repository has another one
# Variables that lead git to another repository than that of the folder: a hook of git sets some of them.
ELSEWHERE = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
)
# English messages, no question to the user, no refreshed index: the folder may be read-only.
ANSWERS = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}
_timed_out: set[Path] = set()


@dataclass(frozen=True)
class SourceCommit:
    """The commit of a folder.

    Attributes:
        name: the commit, with `-dirty` if tracked files differ from it; `unknown` if git does not state it.
        reason: why it is unknown, in one line; empty if it is known.
        has_repository: whether the folder belongs to a repository, so that there is a commit to record.
        advice: what to do about it; may be empty.
    """

    name: str
    reason: str = ""
    advice: str = ""
    has_repository: bool = True

    def warning(self) -> str:
        """The warning about an unknown commit."""
        advice = f"; {self.advice}" if self.advice else ""
        return f"the commit of this folder is recorded as '{UNKNOWN}': {self.reason}{advice}"


class _GitFaultError(Exception):
    """Git does not answer, or answers with an error."""


def source_commit() -> SourceCommit:
    """The commit of the project folder."""
    try:
        head = _git("rev-parse", "--verify", "HEAD")
        changes = _git("status", "--porcelain", "--untracked-files=no")
    except _GitFaultError as fault:
        reason = one_line(without_credentials(str(fault)), REASON_LENGTH)
        return SourceCommit(UNKNOWN, reason, _advice(reason), NO_REPOSITORY not in reason)
    return SourceCommit(f"{head}-dirty" if changes else head)


def commit() -> str:
    """Commit of the project folder, with `-dirty` if tracked files differ; `unknown` if git states none."""
    return source_commit().name


def warn_if_unknown() -> None:
    """Print a warning with git's reason if the folder has a commit that git does not state."""
    found = source_commit()
    if found.reason and found.has_repository:
        print(f"warning: {found.warning()}", file=sys.stderr, flush=True)


def _advice(reason: str) -> str:
    """What to do about git's most frequent refusal, a repository of another user."""
    found = re.search(r"dubious ownership in repository at '(.+)'", reason)
    return f"if you trust it, run: git config --global --add safe.directory '{found[1]}'" if found else ""


def _git(*arguments: str) -> str:
    """The output of git in the current folder.

    Raises:
        _GitFaultError: git is not installed, fails, or does not end in time.
    """
    folder = Path.cwd()
    fault = _GitFaultError(f"git {arguments[0]} did not end within {GIT_SECONDS:.0f} s")
    if folder in _timed_out:
        raise fault
    environment = {name: value for name, value in os.environ.items() if name not in ELSEWHERE} | ANSWERS
    try:
        git = subprocess.Popen(
            ["git", *arguments],  # noqa: S607 - the git on PATH, as in the user's shell
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # so that processes of git, which hold its pipes, end with it
        )
    except OSError as error:
        raise _GitFaultError(f"git cannot be run: {error.strerror}") from error
    try:
        output, errors = git.communicate(timeout=GIT_SECONDS)
    except subprocess.TimeoutExpired:
        _kill(git)
        _timed_out.add(folder)
        raise fault from None
    except BaseException:
        _kill(git)
        raise
    if git.returncode:
        lines = [line for line in errors.splitlines() if line.strip()]
        fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
        raise _GitFaultError(f"git: {(fatal or lines or [f'exit code {git.returncode}'])[0]}")
    return output.strip()


def _kill(git: subprocess.Popen[str]) -> None:
    try:
        os.killpg(git.pid, signal.SIGKILL)
    except ProcessLookupError:
        git.kill()
    git.communicate()
