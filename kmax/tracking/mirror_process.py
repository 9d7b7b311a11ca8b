"""Mirrors one stage while it runs: `python -m kmax.tracking.mirror_process STATE STAGE CHILD`.

It ends when its standard input ends, which the kernel sees to even if the stage is killed. While a training
runs it also samples MLflow's system metrics (CPU, memory, disk, network, GPU) as events of their own.
"""

from __future__ import annotations

import select
import sys
import time
from pathlib import Path
from typing import Any

from kmax.tracking import events
from kmax.tracking.mlflow_mirror import Mirror, quiet_environment, tracking_uri

FLUSH_SECONDS = 5.0
RETRY_SECONDS = 30.0
SAMPLE_SECONDS = 10.0
SAMPLED_STAGES = ("train",)


def main(state: Path, stage: str, child: str) -> None:
    """Mirror the events of `state` every few seconds until standard input ends, and then once more."""
    mirror: Mirror | None = None
    sampler = SystemMetrics(state, stage, child) if stage in SAMPLED_STAGES else None
    warned = False
    next_flush = next_sample = time.monotonic()
    while True:
        wait = max(0.0, min(next_flush, next_sample if sampler else next_flush) - time.monotonic())
        closing = bool(select.select([sys.stdin], [], [], wait)[0])
        now = time.monotonic()
        if sampler and (closing or now >= next_sample):
            sampler.sample()
            next_sample = now + SAMPLE_SECONDS
        if closing or now >= next_flush:
            try:
                mirror = mirror or Mirror(tracking_uri())
                mirror.replay(state)
                next_flush = time.monotonic() + FLUSH_SECONDS
            except Exception as error:
                next_flush = time.monotonic() + RETRY_SECONDS
                if not warned:
                    warn(state, error)
                warned = True
        if closing:
            break


def warn(state: Path, error: Exception) -> None:
    """One line for the person who watches the stage; the work itself goes on."""
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    kept = f"events are kept in {state / events.FILE_NAME} (send them later: kmax track sync)"
    print(f"warning: tracking store {tracking_uri()} fails, {kept}: {reason}", file=sys.stderr, flush=True)


class SystemMetrics:
    """MLflow's system metrics, sampled into the event log; the step is the second since the first sample.

    Args:
        state: folder of the event log.
        stage: that runs.
        child: MLflow child run that gets them.
    """

    def __init__(self, state: Path, stage: str, child: str) -> None:
        quiet_environment()
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self.monitor: Any = SystemMetricsMonitor(run_id="", tracking_uri=tracking_uri())
        self.path = state / events.FILE_NAME
        self.place = {"stage": stage, "child": child, "kind": "metrics"}
        started = (event["time"] for event, _ in events.read(self.path) if event.get("child") == child)
        self.start = next(started, time.time_ns() // 1_000_000)

    def sample(self) -> None:
        """Take one sample of all monitors and append it."""
        self.monitor.collect_metrics()
        values = {f"system/{name}": float(value) for name, value in self.monitor.aggregate_metrics().items()}
        for monitor in self.monitor.monitors:
            monitor.clear_metrics()
        step = (time.time_ns() // 1_000_000 - self.start) // 1000
        events.append(self.path, {**self.place, "values": values, "step": step})


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
