"""What the tracker records of a stage's declared outputs when the stage succeeds."""

from __future__ import annotations

from kmax import paths
from kmax.tracking.tracker import Tracker

MAX_PICTURES = 24


def record_outputs(tracker: Tracker) -> None:
    """Record the outputs of the tracker's stage: results with numbers, pictures, weights by reference."""
    run = tracker.identity.run
    match tracker.stage:
        case "train":
            if paths.model(run).exists():
                tracker.weights(paths.model(run))
            if paths.history(run).exists():
                tracker.artifact(paths.history(run))
        case "port":
            if paths.model(run).exists():
                tracker.weights(paths.model(run))
            if paths.port_report(run).exists():
                tracker.artifact(paths.port_report(run))
        case "predict":
            folder = paths.predictions(run) / "pictures"
            for picture in sorted(folder.glob("*/*.png"))[:MAX_PICTURES]:
                tracker.picture(picture, f"pictures/{picture.parent.name}")
        case "evaluate":
            if paths.metrics(run).exists():
                tracker.record(paths.metrics(run))
            if paths.per_class(run).exists():
                tracker.artifact(paths.per_class(run))
        case "benchmark":
            if paths.speed(run).exists():
                tracker.record(paths.speed(run), prefix="speed")
