"""`kmax track sync`: sends what a missing tracking server lost."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from kmax import paths
from kmax.errors import InputError, unknown_name
from kmax.tracking import events
from kmax.tracking.mlflow_mirror import Mirror, tracking_uri


def sync(runs: Sequence[str] = ()) -> dict[str, int]:
    """Send the events of `runs` (default: of all) that the store has not got.

    Returns:
        `<run>/<digest>` -> number of events sent.

    Raises:
        InputError: no such run, MLflow is missing, or the store cannot be reached.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise InputError('mlflow is not installed; install it with: pip install "kmax[engines]"')
    logs = sorted(paths.STATE.glob(f"*/*/{events.FILE_NAME}"))
    tracked = {log.parent.parent.name for log in logs}
    for run in runs:
        if run not in tracked:
            raise unknown_name("run", run, tracked, str(paths.STATE))
    wanted = [log.parent for log in logs if not runs or log.parent.parent.name in runs]
    mirror = Mirror(tracking_uri())
    sent: dict[str, int] = {}
    for state in wanted:
        try:
            sent[f"{state.parent.name}/{state.name}"] = mirror.replay(state)
        except InputError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"tracking store {mirror.uri} fails: {reason}") from error
    return sent
