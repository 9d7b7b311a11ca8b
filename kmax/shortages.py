"""Errors of a machine that is out of memory, disk, processes or files, as one line that says what to change.

torch, NumPy, numba and the system each raise such an error in their own way. They are recognised here alone,
for all verbs.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

from kmax.files import DISK_ERRORS

MEMORY = (
    "compute in smaller parts (train: KMAX_MICRO_BATCHES=2, 4, ..., or a smaller global_batch_size; predict: "
    "a smaller batch_size), start fewer worker processes (KMAX_WORKERS; 0: none), or give the job more memory"
)
SHARED_MEMORY = "raise the size of /dev/shm (docker run --shm-size=8g), or set KMAX_WORKERS=0"
PROCESSES = "raise `ulimit -u`, or start fewer of them (KMAX_WORKERS=0, OMP_NUM_THREADS=1)"
FILES = "raise `ulimit -n`, or set KMAX_WORKERS=0"
# Errors of disks, permissions and limits rather than of this program.
MACHINE_ERRORS = DISK_ERRORS | {
    errno.EMFILE: f"too many open files: {FILES}",
    errno.ENFILE: f"too many open files: {FILES}",
    errno.ETOOMANYREFS: f"too many open files: {FILES}",
    errno.EAGAIN: f"the system allows no more processes or threads: {PROCESSES}",
    errno.ENOMEM: f"out of memory: {MEMORY}",
}
# Those that count as the cause of another error, too.
RESOURCES = (
    errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ETOOMANYREFS, errno.EAGAIN, errno.ENOMEM
)  # fmt: skip
# What libraries write in errors without a number; the first match decides.
LIBRARY_ERRORS = {
    r"shared memory|No space left on device.*shm|/dev/shm": f"no shared memory: {SHARED_MEMORY}",
    r"(CUDA|HIP).*out of memory|CU(BLAS|DNN)_STATUS_ALLOC_FAILED": f"the GPU is out of memory: {MEMORY}",
    r"can't allocate memory|[Cc]annot allocate memory|not enough memory|bad_alloc|Unable to allocate|"
    r"unable to mmap|[Oo]ut of memory|[Mm]emory ?[Aa]llocation failed": f"out of memory: {MEMORY}",
    r"can't start new thread|Resource temporarily unavailable": (
        f"the system allows no more processes or threads: {PROCESSES}"
    ),
    r"Too many open files|ancdata": f"too many open files: {FILES}",
}
DETAIL_CHARACTERS = 160


def shortage(error: BaseException) -> str | None:
    """What is lacking and what to change, in one line; None if the error has another cause.

    The causes of the error are looked at, too: libraries wrap the system's error in their own.
    """
    for one in _chain(error):
        if isinstance(one, OSError):
            number = one.errno or 0
            if number in (MACHINE_ERRORS if one is error else RESOURCES):
                where = f"{one.filename}: " if one.filename else ""
                return f"{where}{MACHINE_ERRORS[number]} ({one.strerror})"
        elif isinstance(one, MemoryError):
            return _line(f"out of memory: {MEMORY}", one)
        elif isinstance(one, RuntimeError) or type(one).__module__.startswith(("safetensors", "numba")):
            for pattern, line in LIBRARY_ERRORS.items():
                if re.search(pattern, str(one)):
                    return _line(line, one)
    return None


def _line(line: str, error: BaseException) -> str:
    detail = " ".join(str(error).split())
    if not detail:
        return line
    return f"{line} ({detail if len(detail) <= DETAIL_CHARACTERS else detail[:DETAIL_CHARACTERS] + '...'})"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that caused it."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
