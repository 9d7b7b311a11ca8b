"""Loops over pixels as machine code, compiled by numba at the first call and cached for later processes.

Importing numba takes half a second, so modules with such loops are imported inside the functions that call
them.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np

numba.config.SLP_VECTORIZE = 1  # the four channels of a pixel at once: three times as fast
F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile `function` for the types it is called with; on one thread, without holding the GIL.

    Floating point operations are executed as written. The machine code is cached beside the module or, if
    that folder is read-only, in the user's cache (or NUMBA_CACHE_DIR); if both are, each process compiles.
    """
    function.__qualname__ += f"_{_digest_of_used(function)}"
    try:
        return cast(F, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # no folder for the cache
        return cast(F, numba.njit(nogil=True)(function))


def _digest_of_used(function: Callable[..., Any]) -> str:
    """Digest of the functions and constants of other modules that are compiled into a function.

    numba recompiles cached code if the file of the function itself has changed, but not if the file of a
    function that it calls has. Their digest is therefore part of the name under which the code is cached.
    """
    digest = hashlib.sha256()
    for name in function.__code__.co_names:
        used = function.__globals__.get(name)
        called = getattr(used, "py_func", None)
        if called is not None:  # its name includes the digest of the functions that it calls
            digest.update(f"{name} {called.__qualname__} {_file_digest(inspect.getfile(called))}\n".encode())
        elif isinstance(used, int | float | tuple | np.generic):
            digest.update(f"{name} {used!r}\n".encode())
    return digest.hexdigest()[:12]


def _file_digest(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:  # no source, so nothing is cached either
        return ""
