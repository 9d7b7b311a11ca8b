"""Size and speed of a model: parameters, FLOPs, latency, memory.

Latency is the median of several calls after a warm-up, of one image at a time, in fp32: of the forward pass,
and end to end from the decoded image to the panoptic map. FLOPs count matrix products and convolutions, two
for each multiply-add.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from kmax import config, files, paths
from kmax.data.loading.loader import network_input
from kmax.inference.segment_batch import segment_images
from kmax.machine import describe, process_memory
from kmax.model.io import load_model
from kmax.model.kmax import KMaX

WARM_UP_CALLS = 2
MIN_CALLS, MAX_CALLS = 3, 20
ENOUGH_SECONDS = 10.0


def benchmark_run(run: config.Run, provenance: Mapping[str, Any]) -> Path:
    """Benchmark stage: measure the run's model, alone on its device; writes `speed.json`.

    Args:
        run: the run whose model and thresholds are used.
        provenance: of the model; written beside the model's SHA-256.

    Raises:
        InputError: the run has no model yet.
    """
    path = paths.model(run.run)
    model, metadata = load_model(path)
    isthing = torch.tensor([category.isthing for category in metadata.categories])
    figures = benchmark_model(model, isthing, run.predict)
    origin = {**provenance, "model_sha256": files.sha256(path)}
    content = {"run": run.run, "model": run.model.name, "provenance": origin, **figures}
    files.write_json(paths.speed(run.run), content)
    return paths.speed(run.run)


def benchmark_model(model: KMaX, isthing: torch.Tensor, predict: config.Predict) -> dict[str, Any]:
    """Measure a model at its configured image size.

    Args:
        model: is put on the GPU where there is one, into evaluation mode, and without gradients.
        isthing: bool [K].
        predict: thresholds of the post-processing.

    Returns:
        Parameters, flops and multiply_adds of one forward pass, times in seconds, memory in bytes at rest and
        at the peak of a forward pass (CPU: of the process; GPU: of torch's allocator), and the machine.
    """
    predict = predict.model_copy(update={"instances": None, "semantic": False})
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = (
        model.to(device).eval().requires_grad_(False)
    )  # the FLOP counter traces tensors that require gradients
    rgb = picture(model.image_size)
    images, content = network_input(rgb, model.image_size)
    images = images[None].to(device)

    def forward() -> Any:
        return model(images)

    def end_to_end() -> Any:
        tensor, content_size = network_input(rgb, model.image_size)
        original_size = (rgb.shape[0], rgb.shape[1])
        batch = tensor[None].to(device)
        sizes = [content_size], [original_size]
        return list(segment_images(model, batch, *sizes, isthing, predict, ["picture"]))

    with torch.inference_mode():
        flops = count_flops(forward)
        memory = peak_memory(forward, device)
        times = {"forward": measure(forward, device), "end_to_end": measure(end_to_end, device)}
    return {
        "image_size": list(model.image_size),
        "content_size": list(content),
        "batch_size": 1,
        "precision": "fp32",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "flops": flops,
        "multiply_adds": flops // 2,
        "seconds": times,
        "memory": memory,
        "machine": describe(device),
    }


def picture(image_size: tuple[int, int]) -> NDArray[np.uint8]:
    """A smooth picture of aspect 3:4 that fills the width or height of the input; always the same."""
    height, width = image_size
    height, width = min(height, round(width * 0.75)), min(width, round(height / 0.75))
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((1, 3, 9, 12), dtype=np.float32)) * 255
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 255)
    return smooth[0].permute(1, 2, 0).numpy().astype(np.uint8)


def count_flops(call: Callable[[], Any]) -> int:
    """FLOPs of one call."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def measure(call: Callable[[], Any], device: torch.device) -> dict[str, float]:
    """Seconds of one call: median, fastest and slowest of 3 to 20 calls (about 10 seconds of them)."""
    times: list[float] = []
    calls = 0
    while len(times) < MIN_CALLS or (sum(times) < ENOUGH_SECONDS and len(times) < MAX_CALLS):
        wait(device)
        start = time.perf_counter()
        call()
        wait(device)
        calls += 1
        if calls > WARM_UP_CALLS:
            times.append(time.perf_counter() - start)
    return {
        "median": statistics.median(times),
        "fastest": min(times),
        "slowest": max(times),
        "calls": len(times),
    }


def peak_memory(call: Callable[[], Any], device: torch.device) -> dict[str, int | None]:
    """Bytes at rest, at the peak of one call, and the difference; None if the system does not report it."""
    call()
    if device.type == "cuda":
        wait(device)
        torch.cuda.reset_peak_memory_stats(device)
        rest = torch.cuda.memory_allocated(device)
        call()
        wait(device)
        peak = torch.cuda.max_memory_allocated(device)
        return {"rest": rest, "peak": peak, "above_rest": peak - rest}
    try:
        _return_free_memory()
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
        before = process_memory()
        call()
        after = process_memory()
    except (OSError, KeyError):
        return {"rest": None, "peak": None, "above_rest": None}
    return {"rest": before["VmRSS"], "peak": after["VmHWM"], "above_rest": after["VmHWM"] - before["VmRSS"]}


def _return_free_memory() -> None:
    """Return freed memory of earlier calls to the system, or a call would seem to need none."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)


def wait(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
