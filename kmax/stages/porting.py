"""Porting of a run or a file, and what the ported model gives for an image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kmax.errors import InputError
from kmax.runs.families import load_run, location

Tell = Callable[[str], None]


def port(name: str, *, verify: bool = False, recorded: Path | None = None, tell: Tell = print) -> Path:
    """Port stage.

    Args:
        name: of the run.
        verify: run the model on an image.
        recorded: outputs of the original to compare with (`kmax.porting.recorded`); implies `verify`.
        tell: takes the lines that say how the verification went.
    """
    run = load_run(name)
    if run.port is None:
        raise InputError(f"{location(name)}: no 'port' section: `kmax train {name}` makes its model")
    from kmax import paths
    from kmax.porting import port_run
    from kmax.tracking.tracker import track

    with track(run, "port"):
        return port_run(run, check=_check(paths.model(run.run), verify, recorded, tell))


def port_file(
    source: Any,
    checkpoint: Path,
    out: Path,
    model: str,
    *,
    verify: bool = False,
    recorded: Path | None = None,
    tell: Tell = print,
    **arguments: Any,
) -> Path:
    """Port one file; arguments as of `port` and of `kmax.porting.port_file`."""
    from kmax.porting import port_file

    return port_file(source, checkpoint, out, model, check=_check(out, verify, recorded, tell), **arguments)


def _check(out: Path, verify: bool, recorded: Path | None, tell: Tell) -> Callable[[Path], None] | None:
    """What runs the model before it is at `out`."""
    if not verify and recorded is None:
        return None
    from kmax.porting.recorded import read_recording
    from kmax.porting.verify import verify_file

    recording = None if recorded is None else read_recording(recorded)

    def check(path: Path) -> None:
        for line in verify_file(path, recording, called=out):
            tell(line)

    return check
