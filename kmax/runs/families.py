"""Runs and families by name: `params/runs/<family>.yaml` contains complete runs at `runs.<run>.<section>`.

The datasets, weight files and lists of runs of a family are derived from its runs; no other file lists them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kmax import paths
from kmax.config import Family, Parameters, Run
from kmax.config.family import Base
from kmax.errors import InputError, unknown_name
from kmax.parameter_files import names_in, parse, read_yaml

OLD_LAYOUT = "earlier versions used one file per run; see docs/add-a-run.md for moving it into a family file"


class _Inherited(Parameters, extra="ignore"):
    """The part of a family that is checked first, since its faults affect every run."""

    base: Base | None = None


@dataclass(frozen=True)
class _Files:
    """The family files as YAML, runs not yet checked.

    Attributes:
        content: by family, the default family first.
        faults: one per malformed file and per duplicate name.
    """

    content: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def families_of(self, run: str) -> list[str]:
        """The families that contain a run of this name: exactly one in a valid project."""
        return [family for family, content in self.content.items() if run in content["runs"]]

    def runs(self) -> list[str]:
        """Names of all runs."""
        return [run for content in self.content.values() for run in content["runs"]]


def families() -> dict[str, Family]:
    """All families by name, complete and checked, the default family first.

    Raises:
        InputError: one fault per wrong key (file, key, what is allowed), per run in two families, and
            where not exactly one family is the default.
    """
    found = _read()
    result, faults = {}, list(found.faults)
    for name, content in found.content.items():
        try:
            result[name] = _parse(name, content)
        except InputError as error:
            faults += error.faults
    faults += [] if found.faults else _faults_of_default(found)
    if faults:
        raise InputError(faults)
    return result


def load_run(name: str) -> Run:
    """One run, by name; faults of other runs are ignored.

    Raises:
        InputError: no such run (with the nearest name), wrong keys, or two families contain it.
    """
    family, content = _family_of(name)
    only = content | {"runs": {name: content["runs"][name]}}
    return _parse(family, only).runs[name]


def run_names() -> list[str]:
    """Names of all runs.

    Raises:
        InputError: some family file is malformed.
    """
    found = _read()
    if found.faults:
        raise InputError(found.faults)
    return found.runs()


def default_family() -> str:
    """The family that is built if none is named.

    Raises:
        InputError: no family has `default: true`, or several have it.
    """
    found = _read()
    if faults := found.faults or _faults_of_default(found):
        raise InputError(faults)
    return next(iter(found.content))


def select(names: Iterable[str] = ()) -> list[str]:
    """Names of runs, from names of families or runs; without any, the runs of the default family.

    A name shared by a family and a run refers to the family.

    Raises:
        InputError: neither a run of some family nor a family.
    """
    found = _read()
    chosen: dict[str, None] = {}
    for name in list(names) or [default_family()]:
        if name in found.content:
            chosen |= dict.fromkeys(found.content[name]["runs"])
        elif name in found.runs():
            chosen[name] = None
        else:
            raise _unknown("run or family", name, [*found.content, *found.runs()], found)
    return list(chosen)


def location(run: str) -> str:
    """Where a run is written, for messages: `params/runs/<family>.yaml: runs.<run>`."""
    holders = _read().families_of(run)
    return f"{paths.family_file(holders[0])}: runs.{run}" if holders else f"run '{run}'"


def _family_of(run: str) -> tuple[str, dict[str, Any]]:
    found = _read()
    holders = found.families_of(run)
    if not holders:
        raise _unknown("run", run, found.runs(), found)
    if len(holders) > 1:
        raise InputError(_held_twice(run, *holders[:2]))
    return holders[0], found.content[holders[0]]


def _unknown(what: str, name: str, known: list[str], found: _Files) -> InputError:
    """If the name occurs in a file that cannot be read, that fault is reported instead."""
    return InputError(found.faults) if found.faults else unknown_name(what, name, known, str(paths.RUNS))


def _parse(family: str, content: dict[str, Any]) -> Family:
    path = paths.family_file(family)
    parse(_Inherited, content, path)
    return parse(Family, content, path)


def _read() -> _Files:
    if paths.OLD_RUNS_FILE.exists():
        raise InputError(f"{paths.OLD_RUNS_FILE}: {OLD_LAYOUT}")
    content: dict[str, dict[str, Any]] = {}
    faults = []
    for name in names_in(paths.RUNS):
        try:
            content[name] = _read_file(name)
        except InputError as error:
            faults += error.faults
    found = _Files(dict(sorted(content.items(), key=lambda item: not _is_default(item[1]))), faults)
    for run in dict.fromkeys(found.runs()):
        holders = found.families_of(run)
        if len(holders) > 1:
            faults.append(_held_twice(run, *holders[:2]))
    return found


def _read_file(name: str) -> dict[str, Any]:
    """A family file as YAML: a mapping with its own name under `family` and a mapping `runs`."""
    path = paths.family_file(name)
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a mapping with the keys 'family' and 'runs'")
    if "run" in content:
        raise InputError(f"{path}: run: {OLD_LAYOUT}")
    if (named := content.get("family")) != name:
        raise InputError(f"{path}: family: '{named}' does not match the file's name")
    if not isinstance(content.get("runs"), dict):
        raise InputError(f"{path}: runs: not a mapping of names to runs")
    if unquoted := [run for run in content["runs"] if not isinstance(run, str)]:
        raise InputError(f"{path}: runs: {unquoted[0]!r} is not a string; quote the run's name")
    return content


def _held_twice(run: str, first: str, second: str) -> str:
    return f"{paths.family_file(second)}: runs.{run}: duplicate run name, also in {paths.family_file(first)}"


def _is_default(content: dict[str, Any]) -> bool:
    return content.get("default") is True


def _faults_of_default(found: _Files) -> list[str]:
    names = [name for name, content in found.content.items() if _is_default(content)]
    if not names:
        return [f"{paths.RUNS}: no family has 'default: true'; add it to the one to build by default"]
    if len(names) > 1:
        files = ", ".join(str(paths.family_file(name)) for name in names)
        return [f"{files}: default: true in several families; keep it in one"]
    return []
