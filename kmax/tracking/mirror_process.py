"""Mirrors one stage while it runs: `python -m kmax.tracking.mirror_process STATE STAGE CHILD PID`.

It ends when its standard input is closed, which the kernel does even if the stage is killed; then it has a
few seconds for the last events. During a training it also samples MLflow's system metrics (CPU, memory, disk,
network, GPU) and appends them as events.
"""

from __future__ import annotations

import contextlib
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from kmax.errors import InputError
from kmax.processes.child_processes import end_with_parent
from kmax.tracking import events
from kmax.tracking.mlflow_mirror import Mirror, quiet_import, tracking_uri
from kmax.urls import hide_in_tracebacks, without_credentials, without_secrets

FLUSH_SECONDS = 5.0
RETRY_SECONDS = 30.0
SAMPLE_SECONDS = 10.0
ORPHAN_SECONDS = 3  # for the last events of a stage that was killed
SAMPLED_STAGES = ("train",)


def main(state: Path, stage: str, child: str) -> None:
    """Mirror the events of `state` every few seconds until standard input is closed, and then once more.

    A store that has just failed is not tried again at the end, so that the stage does not wait for nothing.
    """
    mirror: Mirror | None = None
    sampler = SystemMetrics(state, stage, child) if stage in SAMPLED_STAGES else None
    warned = failed = False
    next_flush = next_sample = time.monotonic()
    while True:
        wait = max(0.0, min(next_flush, next_sample if sampler else next_flush) - time.monotonic())
        closing = bool(select.select([sys.stdin], [], [], wait)[0])
        now = time.monotonic()
        if sampler and (closing or now >= next_sample):
            with contextlib.suppress(InputError):  # a full disk: the stage itself reports it
                sampler.sample()
            next_sample = now + SAMPLE_SECONDS
        if now >= next_flush or (closing and not failed):
            try:
                mirror = mirror or Mirror(tracking_uri())
                mirror.replay(state)
                while mirror.skipped:
                    print(f"warning: not tracked: {mirror.skipped.pop(0)}", file=sys.stderr, flush=True)
                next_flush = time.monotonic() + FLUSH_SECONDS
                failed = False
            except Exception as error:
                next_flush = time.monotonic() + RETRY_SECONDS
                if not warned:
                    warn(state, error)
                warned = failed = True
        if closing:
            break


def warn(state: Path, error: Exception) -> None:
    """Print one line about a failing store; the stage itself continues."""
    uri = tracking_uri()
    reason = " ".join(without_secrets(str(error), uri).split())[:160] or type(error).__name__
    kept = f"events are kept in {state / events.FILE_NAME} (send them later: kmax track sync)"
    shown = without_credentials(uri)
    print(f"warning: tracking store {shown} failed, {kept}: {reason}", file=sys.stderr, flush=True)


class SystemMetrics:
    """MLflow's system metrics, sampled into the event log; the step is the second since the first sample.

    Args:
        state: folder of the event log.
        stage: the running stage.
        child: MLflow child run that they are logged to.
    """

    def __init__(self, state: Path, stage: str, child: str) -> None:
        self.monitors = _monitors()
        self.path = state / events.FILE_NAME
        self.place = {"stage": stage, "child": child, "kind": "metrics"}
        started = (event["time"] for event, _ in events.read(self.path) if event.get("child") == child)
        self.start = next(started, time.time_ns() // 1_000_000)

    def sample(self) -> None:
        """Sample all monitors and append the values as one event."""
        values: dict[str, float | str] = {}
        for monitor in self.monitors:
            monitor.collect_metrics()
            for name, value in monitor.aggregate_metrics().items():
                values[f"system/{name}"] = events.encode_number(value)
            monitor.clear_metrics()
        step = (time.time_ns() // 1_000_000 - self.start) // 1000
        events.append(self.path, {**self.place, "values": values, "step": step})


def _monitors() -> list[Any]:
    """MLflow's monitors of this machine, with the GPU's if there is one."""
    with quiet_import():
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with contextlib.suppress(Exception):  # no NVIDIA driver, or no pynvml
        monitors.append(GPUMonitor())
    return monitors


def _end_soon_after(stage: int) -> None:
    """Have a few seconds left, even inside of a library, as soon as the stage has ended without waiting."""
    signal.signal(signal.SIGUSR1, lambda number, frame: signal.alarm(ORPHAN_SECONDS))
    end_with_parent(stage, signal.SIGUSR1)


if __name__ == "__main__":
    hide_in_tracebacks()
    _end_soon_after(int(sys.argv[4]))
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
