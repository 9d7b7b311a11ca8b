"""What was measured of a run, read from MLflow: the same structure as from files (`measured`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import Any

from kmax.errors import InputError
from kmax.reporting.measured import Measured
from kmax.tracking.mlflow_mirror import Mirror, tracking_uri

TEXT = "text/"
STAGES = ("evaluate", "benchmark")


def measured_from_mlflow(runs: Iterable[str]) -> dict[str, Measured]:
    """What the latest finished evaluate and benchmark stages of each run told MLflow.

    Raises:
        InputError: MLflow is missing, or the store cannot be read.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise InputError('mlflow is not installed; install it with: pip install "kmax[engines]"')
    mirror = Mirror(tracking_uri())
    measured = {}
    try:
        for run in runs:
            numbers: dict[str, float] = {}
            texts: dict[str, str] = {}
            for stage in STAGES:
                found = mirror.latest(run, stage)
                if found is not None:
                    numbers |= _results(found.data.metrics)
                    texts |= {
                        k.removeprefix(TEXT): v for k, v in found.data.tags.items() if k.startswith(TEXT)
                    }
            if numbers:
                measured[run] = Measured(run, numbers, texts)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"tracking store {mirror.uri} cannot be read: {reason}") from error
    return measured


def _results(metrics: dict[str, Any]) -> dict[str, float]:
    """The results among a stage's metrics: without what the machine did meanwhile."""
    return {name: float(value) for name, value in metrics.items() if not name.startswith("system/")}
