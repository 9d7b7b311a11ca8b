"""What the parts of a network cost: seconds, FLOPs and peak memory of named blocks, which may nest.

The three are measured in separate passes, since counting slows down timing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kmax.inference.benchmark import process_memory, wait
from kmax.model.kmax import KMaX

Replaced = Mapping[str, tuple[ModuleType, str]]
"""By name of a part: the module of Python and the function in it that is the part."""


class Meter(Protocol):
    """Gathers a figure of each part."""

    figures: dict[str, float]

    def of(self, name: str) -> AbstractContextManager[None]:
        """Add what the block costs to the figure of a name."""


class Counter:
    """A figure that grows, such as seconds or FLOPs: what it grew in a part, over all its calls."""

    def __init__(self, read: Callable[[], float]) -> None:
        self.read = read
        self.figures: dict[str, float] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """See `Meter`."""
        self.figures.setdefault(name, 0.0)  # an outer part comes before its inner ones
        before = self.read()
        yield
        self.figures[name] += self.read() - before


class Peak:
    """Bytes held at the peak of a part: of the process, or on a GPU of torch's allocator."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.figures: dict[str, float] = {}
        self._open: list[str] = []

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """See `Meter`."""
        self._boundary()
        self._open.append(name)
        self.figures.setdefault(name, 0.0)
        yield
        self._boundary()
        self._open.pop()

    def _boundary(self) -> None:
        """Record the peak since the last boundary for all open parts, and reset it."""
        if self.device.type == "cuda":
            wait(self.device)
            peak = torch.cuda.max_memory_allocated(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            peak = process_memory()["VmHWM"]
            Path("/proc/self/clear_refs").write_text("5")
        for name in self._open:
            self.figures[name] = max(self.figures[name], peak)


def modules_of(model: KMaX) -> dict[str, list[nn.Module]]:
    """The parts of the network that are modules."""
    layers: Any = model.transformer_decoder.layers
    return {
        "pixel encoder": [model.pixel_encoder],
        "pixel decoder": [model.pixel_decoder],
        "k-means layers": [model.transformer_decoder],
        "- their heads": [layer.predictor for layer in layers],
        "- cluster update": [layer.cluster_update for layer in layers],
        "- self-attention": [layer.self_attention for layer in layers],
        "- feed-forward": [layer.ffn for layer in layers],
        "final heads": [model.predictor],
        "semantic head": [model.semantic_head],
    }


@contextmanager
def watched(meter: Meter, modules: Mapping[str, list[nn.Module]], functions: Replaced) -> Iterator[None]:
    """Every call of these modules and functions is metered as the part that it belongs to."""
    with ExitStack() as stack:
        for name, members in modules.items():
            for module in members:
                blocks: list[AbstractContextManager[None]] = []

                def begin(*_: Any, name: str = name, blocks: list[Any] = blocks) -> None:
                    blocks.append(meter.of(name))
                    blocks[-1].__enter__()

                def end(*_: Any, blocks: list[Any] = blocks) -> None:
                    blocks.pop().__exit__(None, None, None)

                for handle in (module.register_forward_pre_hook(begin), module.register_forward_hook(end)):
                    stack.callback(handle.remove)
        for name, (place, function) in functions.items():
            original = getattr(place, function)

            def metered(*args: Any, name: str = name, original: Any = original, **options: Any) -> Any:
                with meter.of(name):
                    return original(*args, **options)

            setattr(place, function, metered)
            stack.callback(setattr, place, function, original)
        yield


def figures_of(
    call: Callable[[Meter], Any],
    modules: Mapping[str, list[nn.Module]],
    functions: Replaced,
    device: torch.device,
    repeats: int,
) -> dict[str, dict[str, float]]:
    """By part: `seconds` (least of the repeats), `flops` and `peak` in bytes of one call."""

    def now() -> float:
        wait(device)
        return time.perf_counter()

    def one(meter: Meter) -> dict[str, float]:
        with watched(meter, modules, functions), meter.of("all"):
            call(meter)
        return meter.figures

    one(Counter(now))  # warms up
    times = [one(Counter(now)) for _ in range(repeats)]
    aten = torch.ops.aten
    formulas = {aten.convolution_backward: _backward_flops, aten.baddbmm_: _product_flops}
    with FlopCounterMode(display=False, custom_mapping=formulas) as counted:
        flops = one(Counter(counted.get_total_flops))
    peaks = one(Peak(device))
    return {
        name: {"seconds": min(run[name] for run in times), "flops": flops[name], "peak": peaks[name]}
        for name in times[0]
    }


def _product_flops(added_to: torch.Size, a: torch.Size, b: torch.Size, **rest: Any) -> int:
    """Of a batch of products added in place, which torch does not count."""
    return 2 * math.prod(a) * b[2]


def _backward_flops(
    gradient: torch.Size, x: torch.Size, weight: torch.Size, *rest: Any, out_shape: Any = None
) -> int:
    """Of a convolution's backward, by the shapes; torch's own formula takes depthwise ones for dense."""
    output_mask = rest[-1]
    return 2 * math.prod(gradient) * math.prod(weight[1:]) * sum(map(bool, output_mask[:2]))
