"""Loops over pixels as machine code, made by numba at the first call and kept for later processes.

numba takes half a second to import: modules of such loops are imported where they are called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

numba.config.SLP_VECTORIZE = 1  # the four channels of a pixel at once: three times as fast
F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile `function` for the types it is called with; on one thread, without holding Python's lock.

    Floating point operations are done as they are written. The machine code is kept beside the module or,
    where that folder cannot be written, in the user's cache (or NUMBA_CACHE_DIR); where nothing can be,
    each process compiles for itself.
    """
    try:
        return cast(F, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # no folder to keep it in
        return cast(F, numba.njit(nogil=True)(function))
