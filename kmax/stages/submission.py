"""Archives for test servers, of predictions that the run file would make now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kmax.runs import load_run


def submission(server: str, name: str, out: Path, *, task: Any, algorithm: str | None = None) -> str:
    """Write the archive for the server `coco` or `cityscapes`; returns what the terminal shows."""
    from kmax.evaluation.submission import submit_cityscapes, submit_coco
    from kmax.tracking.identity import identify
    from kmax.tracking.provenance import require_predictions

    run = load_run(name)
    require_predictions(run, identify(run))
    if server == "cityscapes":
        submit_cityscapes(run, out, task)
        return str(out)
    wanted = submit_coco(run, out, task, algorithm)
    note = [] if out.name == wanted else [f"the server wants it by the name {wanted}"]
    return "\n".join([*note, str(out)])
