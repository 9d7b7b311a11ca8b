"""The SHA-256 of a checkpoint's files, taken while they are converted."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

BLOCK = 2**20
UNKNOWN = "0" * 64


@contextlib.contextmanager
def hashing(paths: Sequence[Path], known: str | None = None) -> Iterator[Callable[[], str]]:
    """Hash files, one after the other as if they were one, in a thread; what is yielded waits for the digest.

    Args:
        paths: of the files, in order.
        known: the digest, where it is known: nothing is read then.
    """
    if known is not None:
        yield lambda: known
        return
    stopped = Event()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(_sha256, paths, stopped)
        try:
            yield future.result
        finally:
            stopped.set()


def sha256_of(paths: Sequence[Path]) -> str:
    """The digest of files taken as one."""
    return _sha256(paths, Event())


def _sha256(paths: Sequence[Path], stopped: Event) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb", buffering=0) as stream:
            while not stopped.is_set() and (block := stream.read(BLOCK)):
                digest.update(block)
    return digest.hexdigest()
