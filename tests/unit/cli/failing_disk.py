"""Runs commands on a disk that fails at its N-th write (`failing_disk.c`).

    LD_PRELOAD=failing_disk.so FAILING_DISK=control python failing_disk.py

It imports the project once. Each line of its standard input, a JSON object, forks a child that calls one
command, and is answered by a line with the exit code, the output and the number of writes.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
FOLDER_SIZE = 4096  # PATH_MAX
CONTROL = struct.Struct(f"@qqqq{FOLDER_SIZE}s")
END_SECONDS = 120  # more than any command needs here: a longer one hangs
FIELDS = ("code", "out", "err", "writes", "survivors")


@dataclass(frozen=True)
class Answer:
    """What a command did.

    Attributes:
        code: its exit code; None if it did not end.
        writes: how often it wrote to the disk, with all its processes.
        survivors: whether a process of it was left.
    """

    code: int | None
    out: str
    err: str
    writes: int
    survivors: bool


class FailingDisk:
    """Calls commands while the disk below `folder` fails.

    Args:
        folder: of the disk; every command is called in a folder inside.
    """

    def __init__(self, folder: Path) -> None:
        if shutil.which("gcc") is None:
            (pytest.fail if os.environ.get("KMAX_REQUIRE_ALL") == "1" else pytest.skip)(
                "gcc is not installed"
            )
        self.folder = folder
        self.place = Path(tempfile.mkdtemp(prefix="kmax-disk-"))
        library, self.control = self.place / "failing_disk.so", self.place / "control"
        source = HERE / "failing_disk.c"
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source], check=True
        )
        self.control.write_bytes(CONTROL.pack(0, 0, 0, 0, b""))
        from commandline import environment

        path = os.pathsep.join([str(HERE.parents[2]), str(HERE.parents[1]), *sys.path])
        variables = environment(PYTHONPATH=path, LD_PRELOAD=str(library), FAILING_DISK=str(self.control))
        self.server = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=variables,
        )

    def call(
        self,
        project: Path,
        *arguments: str,
        at: int = 0,
        once: bool = False,
        error: int = errno.ENOSPC,
        **env: str,
    ) -> Answer:
        """Call `kmax` in `project`; writes fail from the `at`-th on (`once`: it alone; 0: never)."""
        return self._ask(
            project=str(project),
            folder=str(self.folder),
            arguments=arguments,
            at=at,
            once=once,
            error=error,
            env=env,
        )

    def close(self) -> None:
        """End the server."""
        assert self.server.stdin is not None
        self.server.stdin.close()
        self.server.wait(60)
        shutil.rmtree(self.place)

    def _ask(self, **request: Any) -> Answer:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return Answer(**json.loads(self.server.stdout.readline()))


def serve() -> None:
    """Answer requests until standard input is closed."""
    import kmax.cli.main
    import kmax.evaluation.run.evaluation_stage
    import kmax.inference.prediction_stage
    import kmax.porting
    import kmax.reporting
    import kmax.training.loop  # noqa: F401

    with open(os.environ["FAILING_DISK"], "r+b") as file:
        control = mmap.mmap(file.fileno(), CONTROL.size)
    for line in sys.stdin:
        answer = _run(json.loads(line), control)
        print(json.dumps({name: getattr(answer, name) for name in FIELDS}), flush=True)


def _run(request: dict[str, Any], control: mmap.mmap) -> Answer:
    with tempfile.TemporaryDirectory(prefix="kmax-output-") as output:
        folder = request["folder"].encode()
        control[:] = CONTROL.pack(0, request["at"], request["once"], request["error"], folder)
        child = os.fork()
        if child == 0:
            _call(request, Path(output))
        code = _wait(child)
        survivors = _group_lives(child)
        writes = CONTROL.unpack(control[:])[0]
        control[:] = CONTROL.pack(0, 0, 0, 0, b"")
        if code is None or survivors:
            os.killpg(child, signal.SIGKILL)
        if code is None:
            os.waitpid(child, 0)
        out, err = ((Path(output) / name).read_text() for name in ("out", "err"))
    return Answer(code, out, err, writes, survivors)


def _wait(child: int) -> int | None:
    end = time.monotonic() + END_SECONDS
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def _group_lives(group: int) -> bool:
    """Whether a process of the group is still there after a moment."""
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


def _call(request: dict[str, Any], output: Path) -> None:
    """The child: one command, and the end of the process."""
    try:
        os.setsid()
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(output / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
        os.environ.update(request["env"])
        os.chdir(request["project"])
        warnings.simplefilter("ignore")
        from kmax.cli.main import main

        main(request["arguments"])
    except SystemExit as ending:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ending.code if isinstance(ending.code, int) else 1)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    serve()
