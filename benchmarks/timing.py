"""CPU time of several functions, with little influence from other work on the machine."""

from __future__ import annotations

import time
from collections.abc import Callable


def best(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """CPU seconds of each function: the minimum over the repeats, which alternate between the functions."""
    times = dict.fromkeys(functions, float("inf"))
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.process_time()
            function()
            times[name] = min(times[name], time.process_time() - start)
    return times
