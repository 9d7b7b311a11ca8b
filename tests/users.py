"""Functions called as other users and with read-only folders, in child processes of a test that root runs."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kmax.errors import InputError

GROUP = 54321
# Of Linux: mount_namespaces(7), prctl(2) and capabilities(7).
CLONE_NEWNS, PR_SET_KEEPCAPS = 0x00020000, 8
CAPABILITY_VERSION, CAP_DAC_READ_SEARCH = 0x20080522, 1 << 2


@dataclass(frozen=True)
class User:
    """A user of the shared group, with a umask."""

    uid: int
    umask: int


def require_root() -> None:
    """Skip a test that needs other users or mounts, except in CI, which runs as root."""
    if os.geteuid() == 0:
        return
    if os.environ.get("KMAX_REQUIRE_ALL") == "1":
        pytest.fail("this test must run as root")
    pytest.skip("only root can call commands as other users and mount file systems")


@contextmanager
def public_folder() -> Iterator[Path]:
    """A temporary folder that all users can read, as those of pytest are not."""
    with tempfile.TemporaryDirectory(prefix="kmax-users-") as name:
        os.chmod(name, 0o755)  # noqa: S103 - so that other users can read it
        yield Path(name)


def own_folder(user: User, folder: Path, mode: int = 0o755) -> Path:
    """Create a folder of a user and the group."""
    folder.mkdir(parents=True)
    os.chown(folder, user.uid, GROUP)
    folder.chmod(mode)
    return folder


def become(user: User) -> None:
    """Make this process one of the user, which may read every file: Python may be in a folder of root."""
    library = ctypes.CDLL(None, use_errno=True)
    os.setgroups([GROUP])
    os.setgid(GROUP)
    library.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setuid(user.uid)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    capabilities = (ctypes.c_uint32 * 6)(CAP_DAC_READ_SEARCH, CAP_DAC_READ_SEARCH, 0, 0, 0, 0)
    if library.capset(header, capabilities) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    os.umask(user.umask)


def make_read_only(*folders: Path) -> None:
    """Mount folders read-only, as this process and its children see them; not even root can write there."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    for folder in folders:
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
    os.chdir(os.getcwd())  # the working folder itself may be below one of them


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function in a child process; an `InputError` of it is raised here.

    Args:
        function: it may change the user or the mounts of its process; its result is a JSON value.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = (function(*arguments), None)
        except InputError as error:
            answer = (None, error.faults)
        except BaseException:
            answer = (None, traceback.format_exc())
        with open(writing, "w") as stream:
            json.dump(answer, stream)
        os._exit(0)
    os.close(writing)
    with open(reading) as stream:
        result, fault = json.load(stream)
    os.waitpid(child, 0)
    if isinstance(fault, list):
        raise InputError(fault)
    assert fault is None, fault
    return result
