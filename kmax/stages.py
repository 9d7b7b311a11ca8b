"""The stages of a run, and the other verbs that check where results come from.

Each function loads its run, rejects results of other parameters, calls the package that does the work, and
tracks the outcome. Heavy imports are inside the functions, so that `kmax --help` and small
verbs stay quick.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kmax import files, paths
from kmax.errors import InputError
from kmax.runs.families import load_run, location

SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
REPORT_PACKAGES = ("markupsafe", "jinja2", "matplotlib")
Log = Callable[[str], None]


def train(name: str, *, fresh: bool = False, time_budget: str | None = None) -> Path:
    """Train stage. The training tracks itself because it starts its own ranks.

    Args:
        name: of the run.
        fresh: remove saved states of the same parameters and start again.
        time_budget: a duration such as "90", "45m" or "12h".

    Returns:
        The path of the model.
    """
    run = load_run(name)
    if run.train is None:
        raise InputError(f"{location(name)}: the run has no 'train' section; run: kmax port {name}")
    budget = None if time_budget is None else seconds(time_budget)
    _require_writable(paths.results(name), paths.metrics_folder(name))
    from kmax.training.loop import train_run

    return train_run(run, fresh=fresh, time_budget=budget)


def seconds(text: str) -> float:
    """A duration in seconds: "90", "90s", "45m", "12h", "1d".

    Raises:
        InputError: not such a duration, or not positive.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if match is None or float(match[1]) == 0:
        raise InputError(
            f"time budget '{text}': expected seconds, or a number with the unit s, m, h or d, such as 45m"
        )
    return float(match[1]) * SECONDS[match[2]]


def port(name: str, *, verify: bool = False, recorded: Path | None = None, log: Log = print) -> Path:
    """Port stage.

    Args:
        name: of the run.
        verify: run the ported model on an image.
        recorded: outputs of the original to compare with (`kmax.porting.recorded`); implies `verify`.
        log: receives the lines of the verification.

    Returns:
        The path of the model.
    """
    run = load_run(name)
    if run.port is None:
        raise InputError(f"{location(name)}: the run has no 'port' section; run: kmax train {name}")
    _require_writable(paths.results(name))
    from kmax.porting import port_run
    from kmax.tracking.tracker import track

    with track(run, "port"):
        return port_run(run, check=_model_check(paths.model(run.run), verify, recorded, log))


def port_file(
    source: Any,
    checkpoint: Path,
    out: Path,
    model: str,
    *,
    verify: bool = False,
    recorded: Path | None = None,
    log: Log = print,
    overwrite: bool = False,
    **arguments: Any,
) -> Path:
    """Port one checkpoint file; arguments of `port` and of `kmax.porting.port_file`."""
    from kmax.porting import port_file, require_model_name

    require_model_name(out, [checkpoint, *([] if recorded is None else [recorded])], overwrite)
    check = _model_check(out, verify, recorded, log)
    return port_file(source, checkpoint, out, model, check=check, overwrite=overwrite, **arguments)


def _model_check(out: Path, verify: bool, recorded: Path | None, log: Log) -> Callable[[Path], None] | None:
    """A function that verifies the model before it is moved to `out`."""
    if not verify and recorded is None:
        return None
    from kmax.porting.recorded import read_recording
    from kmax.porting.verify import verify_file

    recording = None if recorded is None else read_recording(recorded)

    def check(path: Path) -> None:
        for line in verify_file(path, recording, called=out):
            log(line)

    return check


def predict(name: str, split: str | None = None) -> Path:
    """Predict stage, with the model of the run's parameters. Finished shards stay in the state folder.

    Args:
        name: of the run.
        split: another split than the run's own; nothing depends on its predictions, and they are not tracked.

    Returns:
        The folder of the predictions.
    """
    run = load_run(name)
    _require_writable(paths.results(name))
    from kmax.inference.prediction_stage import predict_run
    from kmax.runs.provenance import provenance_for_predictions
    from kmax.tracking.tracker import track

    identity, provenance = provenance_for_predictions(run)
    if split is not None:
        return predict_run(run, identity.state, provenance, split)
    with track(run, "predict", identity=identity):
        return predict_run(run, identity.state, provenance)


def evaluate(name: str) -> Path:
    """Evaluate stage. The provenance of the predictions goes into metrics.json.

    Returns:
        The path of metrics.json.
    """
    run = load_run(name)
    _require_writable(paths.metrics_folder(name))
    from kmax.evaluation.run.evaluation_stage import evaluate_run
    from kmax.runs.provenance import provenance_for_scores
    from kmax.tracking.tracker import track

    identity, provenance = provenance_for_scores(run)
    with track(run, "evaluate", identity=identity):
        return evaluate_run(run, provenance)


def benchmark(name: str) -> Path:
    """Benchmark stage. It needs only the model, whose metadata identifies its data.

    Returns:
        The path of speed.json.
    """
    run = load_run(name)
    _require_writable(paths.metrics_folder(name))
    from kmax.inference.benchmark import benchmark_run
    from kmax.runs.provenance import model_identity, model_provenance
    from kmax.tracking.tracker import track

    with track(run, "benchmark", identity=model_identity(run)):
        return benchmark_run(run, model_provenance(run))


def report(
    names: Sequence[str],
    *,
    out: Path | None = None,
    check: Path | None = None,
    from_mlflow: bool = False,
    overwrite: bool = False,
) -> Path:
    """Report stage: tables, figures and the site of families or runs.

    Args:
        names: of runs or families; none: the default family.
        out: folder of the report; None: reports/ for the default family, as both engines declare it, and a
            folder below reports/families/ for any other selection.
        check: a published set of tables, which must agree with the new ones.
        from_mlflow: read the measured figures from MLflow instead of files.
        overwrite: also replace folders with files that no report has.

    Returns:
        The first page of the site.

    Raises:
        InputError: a package for reports is not installed, unknown names, corrupt files, or figures that
            differ from those in `check`; or the report would replace files that are not of a report.
    """
    if missing := [name for name in REPORT_PACKAGES if find_spec(name) is None]:
        advice = 'install the report extra: pip install ".[report]"'
        raise InputError(f"{', '.join(missing)}: not installed; {advice}")
    from kmax.runs.families import select

    runs = select(names)
    from kmax import reporting

    if out is None:
        # "+" distinguishes a list of names from the name of a family, which never contains it.
        out = paths.REPORTS if runs == select() else paths.family_report("+".join(dict.fromkeys(names)))
    reporting.require_report_folder(runs, out, check, overwrite)
    files.require_writable(out, "write the report to another folder with --out")
    measured = reporting.measured_from_mlflow(runs) if from_mlflow else None
    page = reporting.report(runs, out=out, measured=measured)
    if check is not None and (differences := reporting.compare_reports(check, out / "tables")):
        raise InputError([str(difference) for difference in differences])
    return page


def _require_writable(*folders: Path) -> None:
    """Reject a state folder or output folders that cannot be written before the work, not after it."""
    for folder in (paths.STATE, *folders):
        files.require_writable(folder)


def submit_coco(
    name: str,
    out: Path,
    *,
    task: Any,
    split: str | None = None,
    algorithm: str | None = None,
    overwrite: bool = False,
) -> str:
    """Write an archive for COCO's server from up-to-date predictions; returns the name the server expects."""
    from kmax.evaluation.submission import submission_archives

    submission_archives.require_archive_name(out, name, split, overwrite)
    run = _require_submittable(name, split)
    return submission_archives.submit_coco(run, out, task, algorithm, split)


def submit_cityscapes(
    name: str, out: Path, *, task: Any, split: str | None = None, overwrite: bool = False
) -> None:
    """Write an archive for Cityscapes' server from up-to-date predictions."""
    from kmax.evaluation.submission import submission_archives

    submission_archives.require_archive_name(out, name, split, overwrite)
    submission_archives.submit_cityscapes(_require_submittable(name, split), out, task, split)


def _require_submittable(name: str, split: str | None) -> Any:
    """The run, if its predictions on the split are up to date."""
    from kmax.data.datasets import open_prepared
    from kmax.runs.identity import identify
    from kmax.runs.provenance import require_predictions

    run = load_run(name)
    if split is not None:
        open_prepared(run.data.dataset).images_of(
            split
        )  # an unknown split is reported before its predictions
    require_predictions(run, identify(run), split)
    return run
