"""Report and tracking as the verbs call them."""

from __future__ import annotations

from pathlib import Path


def report(
    names: list[str], *, out: Path | None = None, check: Path | None = None, from_mlflow: bool = False
) -> Path:
    """Build the report for runs or families into `out`; without any, for the default family.

    Args:
        names: of runs or families.
        out: folder of the report; None: reports/ for the default family, as both engines declare it, and
            a folder below reports/families/ for any other selection.
        check: a published set of tables; they must say the same as those made here.
        from_mlflow: read what was measured from MLflow, not from files.

    Returns:
        The first page of the site.

    Raises:
        InputError: what draws the report is not installed, unknown names, damaged files, or figures that
            differ from those in `check`.
    """
    _require_report_extra()
    from kmax.errors import InputError
    from kmax.runs.families import select

    runs = select(names)
    from kmax import paths, reporting

    if out is None:
        # A list of names is told from the name of a family by "+", which no name contains.
        out = paths.REPORTS if runs == select() else paths.family_report("+".join(dict.fromkeys(names)))
    measured = reporting.measured_from_mlflow(runs) if from_mlflow else None
    page = reporting.report(runs, out=out, measured=measured)
    if check is not None and (differences := reporting.compare_reports(check, out / "tables")):
        raise InputError([str(difference) for difference in differences])
    return page


def _require_report_extra() -> None:
    """What only reports need: the tables on the page, the page, the figures."""
    from importlib.util import find_spec

    from kmax.errors import InputError

    absent = [name for name in ("markupsafe", "jinja2", "matplotlib") if find_spec(name) is None]
    if absent:
        raise InputError(
            f'{", ".join(absent)}: not installed; install the report extra: pip install "kmax[report]"'
        )


def track_sync(runs: list[str]) -> str:
    """Backfill MLflow from the recorded events; says how many each state folder sent, and what is lost."""
    from kmax.tracking.sync import sync

    sent = sync(runs)
    lines = [f"{name}: {count} events sent" for name, count in sorted(sent.events.items())]
    lines += [f"not sent: {reason}" for reason in sent.skipped]
    return "\n".join(lines) or "no run has recorded events"


def track_ui(port: int) -> None:
    """Run the MLflow UI until Ctrl-C."""
    from kmax.tracking.ui import serve

    serve(port)
