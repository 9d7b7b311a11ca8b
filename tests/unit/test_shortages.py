"""What the machine lacks is one line that says what to change; a bug is none."""

import errno
import re

import numpy as np
import pytest
import torch

from kmax.errors import InputError
from kmax.shortages import shortage


def caused_by(error: BaseException) -> Exception:
    try:
        try:
            raise error
        except BaseException as inner:
            raise RuntimeError("a library's own error") from inner
    except RuntimeError as outer:
        return outer


def of(action) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - its type is the library's
        action()
    return caught.value


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "out of memory: .*KMAX_MICRO_BATCHES"),
        (of(lambda: np.empty(2**55, np.float64)), "out of memory: .*Unable to allocate"),
        (of(lambda: torch.empty(2**55)), "out of memory: .*allocate"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "the GPU is out of memory"),
        (RuntimeError("CUDA error: out of memory"), "the GPU is out of memory"),
        (
            RuntimeError("unable to allocate shared memory(shm) for file </torch_1>"),
            "--shm-size.*KMAX_WORKERS=0",
        ),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "ulimit -u"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (OSError(errno.ENOSPC, "No space left on device", "a.png"), "^a.png: the disk is full"),
        (caused_by(MemoryError()), "out of memory"),
        (caused_by(OSError(errno.ENOMEM, "Cannot allocate memory")), "out of memory"),
    ],
)
def test_what_is_lacking_is_said_in_one_line(error: Exception, line: str) -> None:
    found = shortage(error)
    assert found is not None
    assert re.search(line, found)
    assert "\n" not in found


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("a bug"),
        RuntimeError("shape mismatch"),
        KeyError("memory"),
        InputError("x: wrong"),
        OSError(errno.EINVAL, "Invalid argument"),
        caused_by(PermissionError(errno.EACCES, "Permission denied")),
    ],
)
def test_a_bug_keeps_its_traceback(error: Exception) -> None:
    assert shortage(error) is None
