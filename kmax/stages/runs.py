"""The stages of one run, tracked: train, port, predict, evaluate, benchmark."""

from __future__ import annotations

import re
from pathlib import Path

from kmax.errors import InputError
from kmax.runs.families import load_run, location

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
        raise InputError(f"{location(name)}: no 'train' section: `kmax port {name}` makes its model")
    budget = None if time_budget is None else seconds(time_budget)
    from kmax.training.loop import train_run

    return train_run(run, fresh=fresh, time_budget=budget)


def predict(name: str, split: str | None = None) -> Path:
    """Predict stage, by the model that the run file makes now; unfinished work stays in the state folder.

    On another split than the run's own it is no stage: nothing depends on it, and it is not tracked.
    """
    run = load_run(name)
    from kmax.inference.prediction_stage import predict_run
    from kmax.runs.identity import identify
    from kmax.runs.provenance import require_model, stage_digest
    from kmax.tracking.tracker import track

    identity = identify(run)
    provenance = require_model(run, identity) | {"data_digest": identity.data_digest}
    provenance["stage_digest"] = stage_digest(run, "predict")
    if split is not None:
        return predict_run(run, identity.state, provenance, split)
    with track(run, "predict", identity=identity):
        return predict_run(run, identity.state, provenance)


def evaluate(name: str) -> Path:
    """Evaluate stage; which model the predictions are of goes into metrics.json."""
    run = load_run(name)
    from kmax.evaluation.run.evaluation_stage import evaluate_run
    from kmax.runs.identity import identify
    from kmax.runs.provenance import require_predictions, stage_digest
    from kmax.tracking.tracker import track

    identity = identify(run)
    provenance = require_predictions(run, identity) | {"stage_digest": stage_digest(run, "evaluate")}
    provenance |= {"parameters_digest": identity.parameters_digest, "commit": identity.commit}
    with track(run, "evaluate", identity=identity):
        return evaluate_run(run, provenance)


def benchmark(name: str) -> Path:
    """Benchmark stage; it needs the model alone, which tells who it is."""
    run = load_run(name)
    from kmax.inference.benchmark import benchmark_run
    from kmax.runs.provenance import model_identity, model_provenance
    from kmax.tracking.tracker import track

    with track(run, "benchmark", identity=model_identity(run)):
        return benchmark_run(run, model_provenance(run))
