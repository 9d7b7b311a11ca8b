"""The stages of one run, tracked: train, port, predict, evaluate, benchmark."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmax.errors import InputError
from kmax.runs import load_run

if TYPE_CHECKING:
    from kmax.config import Run

SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> float:
    """A duration in seconds: "90", "90s", "45m", "12h", "1d".

    Raises:
        InputError: not such a duration, or not positive.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if match is None or float(match[1]) == 0:
        raise InputError(f"time budget '{text}': write seconds, or a number with s, m, h or d, such as 45m")
    return float(match[1]) * SECONDS[match[2]]


def train(name: str, *, fresh: bool = False, time_budget: str | None = None) -> Path:
    """Train stage; the trainer tracks itself, since it starts its own ranks."""
    run = load_run(name)
    if run.train is None:
        raise InputError(f"params/runs/{name}.yaml: no 'train' section: `kmax port {name}` makes its model")
    from kmax.training.loop import train_run

    return train_run(run, fresh=fresh, time_budget=None if time_budget is None else seconds(time_budget))


def port(name: str) -> Path:
    """Port stage."""
    run = load_run(name)
    from kmax.files import read_json
    from kmax.paths import port_report
    from kmax.porting import port_run

    with _tracked(run, "port") as tracker:
        path = port_run(run)
        counts = read_json(port_report(name), "report of the port")["counts"]
        tracker.metrics({f"port/{fate}": float(count) for fate, count in counts.items()}, step=0)
    return path


def predict(name: str) -> Path:
    """Predict stage; its pictures are tracked."""
    run = load_run(name)
    from kmax.inference.predictor import predict_run

    with _tracked(run, "predict") as tracker:
        path = predict_run(run)
        for picture in sorted(path.glob("pictures/*/*.png")):
            tracker.picture(picture)
    return path


def evaluate(name: str) -> Path:
    """Evaluate stage; every figure of metrics.json is tracked."""
    run = load_run(name)
    from kmax.evaluation.run import evaluate_run
    from kmax.files import read_json

    with _tracked(run, "evaluate") as tracker:
        path = evaluate_run(run)
        tracker.metrics(_figures(read_json(path, "metrics")), step=0)
    return path


def benchmark(name: str) -> Path:
    """Benchmark stage."""
    run = load_run(name)
    from kmax.files import read_json
    from kmax.inference.benchmark import benchmark_run

    with _tracked(run, "benchmark") as tracker:
        path = benchmark_run(run)
        tracker.metrics(_figures(read_json(path, "speed figures")), step=0)
    return path


def _tracked(run: Run, stage: str) -> Any:
    from kmax.tracking.identity import identify
    from kmax.tracking.tracker import track

    return track(run, stage, identity=identify(run))


def _figures(value: Any, prefix: str = "") -> dict[str, float]:
    """The numbers of a JSON value, named by their keys joined with slashes."""
    if isinstance(value, bool) or value is None or isinstance(value, str | list):
        return {}
    if isinstance(value, dict):
        inner = [_figures(item, f"{prefix}/{key}" if prefix else str(key)) for key, item in value.items()]
        return {key: figure for figures in inner for key, figure in figures.items()}
    return {prefix: float(value)}
