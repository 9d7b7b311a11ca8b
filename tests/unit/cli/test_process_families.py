"""A verb and its processes end together, within seconds, whichever of them fails or is killed."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from commandline import is_one_line
from process_families import Family, endless_project, prepare_for

EXIT_CODES = {signal.SIGTERM: (75, 143), signal.SIGKILL: (-signal.SIGKILL,)}


@pytest.fixture
def project(copy: Path) -> Path:
    return endless_project(copy)


def case(verb: str, ranks: int, kind: str, number: signal.Signals, is_long: bool) -> Any:
    marks = [pytest.mark.long] if is_long else []
    return pytest.param(verb, ranks, kind, number, marks=marks, id=f"{verb}-{ranks}-{kind}-{number.name}")


@pytest.mark.parametrize(
    ("verb", "ranks", "kind", "number"),
    [
        case("train", 1, "main", signal.SIGKILL, True),
        case("train", 1, "main", signal.SIGTERM, True),
        case("train", 1, "worker", signal.SIGKILL, False),
        case("train", 2, "main", signal.SIGKILL, False),
        case("train", 2, "main", signal.SIGTERM, True),
        case("train", 2, "worker", signal.SIGKILL, True),
        case("train", 2, "rank", signal.SIGKILL, False),
        case("train", 2, "rank", signal.SIGTERM, True),
        case("predict", 1, "main", signal.SIGKILL, False),
        case("predict", 1, "main", signal.SIGTERM, True),
        case("evaluate", 1, "main", signal.SIGKILL, True),
        case("evaluate", 1, "main", signal.SIGTERM, True),
        case("evaluate", 1, "worker", signal.SIGKILL, False),
        case("evaluate", 1, "worker", signal.SIGTERM, True),
        case("prepare", 1, "main", signal.SIGKILL, True),
        case("prepare", 1, "main", signal.SIGTERM, False),
        case("prepare", 1, "worker", signal.SIGKILL, True),
        case("prepare", 1, "worker", signal.SIGTERM, True),
        case("predict-images", 1, "main", signal.SIGTERM, True),
    ],
)
def test_all_processes_end_together(
    project: Path, verb: str, ranks: int, kind: str, number: signal.Signals
) -> None:
    prepare_for(verb, project)
    family = Family(project, verb, ranks)
    os.kill(family.one(kind), number)
    family.seconds_to_end()
    answer = family.command.result()
    assert "Traceback" not in answer.stderr
    if kind == "main":
        assert answer.returncode in EXIT_CODES[number]
    elif number == signal.SIGTERM and kind == "rank":
        assert answer.returncode == 75
    else:
        assert answer.returncode == 2
        assert is_one_line(answer)
        assert f"was ended by {number.name}" in answer.stderr
    if number == signal.SIGKILL and kind == "worker":
        assert "KMAX_WORKERS" in answer.stderr
