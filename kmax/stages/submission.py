"""Archives for test servers, of predictions that the run file would make now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kmax.runs.families import load_run


def submission(
    server: str,
    name: str,
    out: Path,
    *,
    task: Any,
    split: str | None = None,
    algorithm: str | None = None,
) -> str:
    """Write the archive for the server `coco` or `cityscapes`; returns what the terminal shows."""
    from kmax.data.datasets import open_prepared
    from kmax.evaluation.submission.submission_archives import submit_cityscapes, submit_coco
    from kmax.runs.identity import identify
    from kmax.runs.provenance import require_predictions

    run = load_run(name)
    if split is not None:
        open_prepared(run.data.dataset).images_of(split)  # an unknown one is told before its predictions
    require_predictions(run, identify(run), split)
    if server == "cityscapes":
        submit_cityscapes(run, out, task, split)
        return str(out)
    wanted = submit_coco(run, out, task, algorithm, split)
    note = [] if out.name == wanted else [f"the server wants it by the name {wanted}"]
    return "\n".join([*note, str(out)])
