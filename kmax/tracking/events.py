"""The event log of a run: one JSON object per line, appended under a file lock by any number of processes.

An event has an `id`, a `time` (milliseconds since 1970), the `stage`, a `child` (its MLflow child run) and a
`kind` (`start`, `metrics`, `parameters`, `tags`, `dataset`, `artifact`, `weights`, `end`) with the fields of
that kind.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kmax.files import cannot_write
from kmax.urls import without_credentials

Event = dict[str, Any]
FILE_NAME = "events.jsonl"
MAX_LIST = 4
MAX_NAME = 250


def append(path: Path, event: Mapping[str, Any]) -> None:
    """Append one event, whole or not at all; `id` and `time` are added, credentials of URLs removed.

    If an earlier writer crashed within a line, that line is terminated first, and only it is lost.

    Raises:
        InputError: the folder cannot be written or the disk is full.
    """
    stamped = {"id": uuid.uuid4().hex, "time": time.time_ns() // 1_000_000, **_without_credentials(event)}
    line = json.dumps(stamped, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line
            if os.write(descriptor, line) != len(line):
                os.ftruncate(descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise cannot_write(path, error) from error


def _without_credentials(value: Any) -> Any:
    """A JSON value whose texts are without the credentials of their URLs."""
    match value:
        case str():
            return without_credentials(value) if "://" in value else value
        case Mapping():
            return {key: _without_credentials(inner) for key, inner in value.items()}
        case list():
            return [_without_credentials(inner) for inner in value]
    return value


def read(path: Path, offset: int = 0) -> Iterator[tuple[Event, int]]:
    """Complete events from byte `offset` on, each with the offset after it; incomplete lines are skipped."""
    try:
        stream = open(path, "rb")  # noqa: SIM115 - closed by the with below
    except FileNotFoundError:
        return
    with stream:
        stream.seek(offset)
        for line in stream:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "kind" in event:
                yield event, offset


def encode_number(value: float) -> float | str:
    """A number for strict JSON: NaN and infinities become strings that `float` reads."""
    value = float(value)
    return value if math.isfinite(value) else str(value)


def metric_name(name: str) -> str:
    """A name that MLflow accepts: at most 250 characters; `@ ( ) ^` and the like become underscores."""
    return _place(re.sub(r"[^\w.\-/ :]", "_", name, flags=re.ASCII))[:MAX_NAME]


def artifact_folder(path: str) -> str:
    """A folder of artifacts: characters that have a meaning in URLs become underscores."""
    return _place(re.sub(r"[^\w.\-/ ]", "_", path)) if path else ""


def _place(path: str) -> str:
    """A path whose parts are all names: MLflow refuses `//`, `.` and `..`."""
    return "/".join("_" if part in ("", ".", "..") else part for part in path.split("/"))


def flatten(value: Any) -> tuple[dict[str, float], dict[str, str]]:
    """Numbers and texts of a nested JSON value by their path (`pq/all/pq`), in names that MLflow accepts.

    The items of short lists are named by their index (an interval's ends are `.../0` and `.../1`). Longer
    lists and nulls are omitted; booleans become texts.
    """
    numbers: dict[str, float] = {}
    texts: dict[str, str] = {}

    def visit(inner: Any, path: str) -> None:
        match inner:
            case dict():
                for key, part in inner.items():
                    visit(part, f"{path}/{key}" if path else str(key))
            case list() if len(inner) <= MAX_LIST:
                visit({str(index): part for index, part in enumerate(inner)}, path)
            case bool():
                texts[metric_name(path)] = str(inner).lower()
            case int() | float():
                numbers[metric_name(path)] = float(inner)
            case str():
                texts[metric_name(path)] = inner

    visit(value, "")
    return numbers, texts


def flatten_parameters(value: Any, prefix: str = "") -> dict[str, str]:
    """Resolved parameters as dotted keys and JSON values: `{"data.image_size": "[129, 129]"}`."""
    if isinstance(value, Mapping):
        flat: dict[str, str] = {}
        for key, inner in value.items():
            flat |= flatten_parameters(inner, f"{prefix}.{key}" if prefix else str(key))
        return flat
    return {prefix: value if isinstance(value, str) else json.dumps(value)}
