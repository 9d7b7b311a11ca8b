"""Measured figures of runs, read from files or from MLflow."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kmax import files, paths
from kmax.errors import InputError
from kmax.tracking.events import flatten
from kmax.tracking.mlflow_mirror import Mirror, require_mlflow, tracking_uri

SPEED = "speed"
TEXT = "text/"
STAGES = ("evaluate", "benchmark")


@dataclass(frozen=True)
class Measured:
    """Numbers and texts of a run's metrics.json by path, and of its speed.json by path after `speed/`.

    Attributes:
        run: name of the run.
        numbers: such as `pq/all/pq`, `intervals/pq/all/pq/0`, `speed/parameters`.
        texts: such as `pq/evaluator`, `provenance/commit`.
    """

    run: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)

    def interval(self, path: str) -> tuple[float, float] | None:
        """The 95% interval of a number, or None."""
        *above, name = path.split("/")
        # The interval of `miou/miou` is at `intervals/miou`.
        place = "/".join(above) if above[-1:] == [name] else path
        low, high = (self.numbers.get(f"intervals/{place}/{end}") for end in (0, 1))
        return None if low is None or high is None else (low, high)

    def evaluator(self, path: str) -> str | None:
        """The evaluator of a number and its version, from the number's part of metrics.json."""
        part = path.split("/")[0]
        name = self.texts.get(f"{part}/evaluator")
        version = self.texts.get(f"{part}/version")
        return f"{name} (version {version})" if name and version else name


def read_measured(runs: Iterable[str]) -> dict[str, Measured]:
    """The figures in the files of each run; runs without any are omitted.

    Raises:
        InputError: a file is corrupt.
    """
    measured = {}
    for run in runs:
        numbers: dict[str, float] = {}
        texts: dict[str, str] = {}
        for path, prefix in ((paths.metrics(run), ""), (paths.speed(run), SPEED)):
            if path.exists():
                value = files.read_json(path, "measured figures")
                some_numbers, some_texts = flatten({prefix: value} if prefix else value)
                numbers |= some_numbers
                texts |= some_texts
        if numbers:
            measured[run] = Measured(run, numbers, texts)
    return measured


def measured_from_mlflow(runs: Iterable[str]) -> dict[str, Measured]:
    """Figures that the latest finished evaluate and benchmark stages of each run logged to MLflow.

    Raises:
        InputError: MLflow is not installed, or the store cannot be read.
    """
    require_mlflow()
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
    """The metrics of a stage without the system metrics."""
    return {name: float(value) for name, value in metrics.items() if not name.startswith("system/")}


def seeds_of(run: str, known: Iterable[str]) -> list[str]:
    """The runs among `known` that differ from `run` only by their seed: itself and `<run>-s<seed>`."""
    seeded = re.compile(rf"{re.escape(run)}(-s(\d+))?")
    found = [(int(match[2] or -1), name) for name in known if (match := seeded.fullmatch(name))]
    return [name for _, name in sorted(found)]
