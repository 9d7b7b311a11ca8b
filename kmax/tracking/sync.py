"""`kmax track sync`: sends what a missing tracking server lost."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field

from kmax import paths
from kmax.errors import InputError, unknown_name
from kmax.tracking import events
from kmax.tracking.mlflow_mirror import Mirror, tracking_uri


@dataclass(frozen=True)
class Sent:
    """What `sync` did.

    Attributes:
        events: `<run>/<digest>` -> number of events sent.
        skipped: files that could not be sent any more, and why.
    """

    events: dict[str, int] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def sync(runs: Sequence[str] = ()) -> Sent:
    """Send the events of `runs` (default: of all) that the store has not got.

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
    sent = Sent(skipped=mirror.skipped)
    for state in wanted:
        try:
            sent.events[f"{state.parent.name}/{state.name}"] = mirror.replay(state)
        except InputError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"tracking store {mirror.uri} fails: {reason}") from error
    return sent
