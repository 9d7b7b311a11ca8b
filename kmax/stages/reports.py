"""Report and tracking as the verbs call them."""

from __future__ import annotations

from pathlib import Path


def report(names: list[str], *, out: Path, check: Path | None = None, from_mlflow: bool = False) -> Path:
    """Build the report for runs or families into `out`; without any, for the default family.

    Args:
        names: of runs or families.
        out: folder of the report.
        check: a published set of tables; they must say the same as those made here.
        from_mlflow: read what was measured from MLflow, not from files.

    Returns:
        The first page of the site.

    Raises:
        InputError: unknown names, damaged files, or figures that differ from those in `check`.
    """
    from kmax.errors import InputError
    from kmax.families import select

    runs = select(names)
    from kmax import reporting

    measured = reporting.measured_from_mlflow(runs) if from_mlflow else None
    page = reporting.report(runs, out=out, measured=measured)
    if check is not None and (differences := reporting.compare_reports(check, out / "tables")):
        raise InputError([str(difference) for difference in differences])
    return page


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
