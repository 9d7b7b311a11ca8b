"""Options of several verbs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Verify = Annotated[
    bool, typer.Option("--verify", help="Run the model on a bundled image and say what it gives.")
]
Split = Annotated[
    str | None,
    typer.Option(
        metavar="SPLIT",
        help="Another split of the run's dataset, all its images; those of a test server need no annotation.",
    ),
]
Recorded = Annotated[
    Path | None,
    typer.Option(
        metavar="NPZ",
        help="Outputs of the original, with its images, to compare with; a model that differs is not kept.",
    ),
]
