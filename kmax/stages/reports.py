"""Report and tracking as the verbs call them."""

from __future__ import annotations

from pathlib import Path


def report(runs: list[str], *, check: Path | None = None, from_mlflow: bool = False) -> Path:
    """Build the report for runs or families, or compare it with a published set."""
    raise NotImplementedError


def track_sync(runs: list[str]) -> str:
    """Backfill MLflow from the recorded events; says how many events each state folder sent."""
    from kmax.tracking.sync import sync

    sent = sync(runs)
    lines = [f"{name}: {count} events sent" for name, count in sorted(sent.items())]
    return "\n".join(lines) or "no run has recorded events"


def track_ui(port: int) -> None:
    """Run the MLflow UI until Ctrl-C."""
    from kmax.tracking.ui import serve

    serve(port)
