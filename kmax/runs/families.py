"""Families of runs (`params/runs.yaml`): the one list that both engines and the report expand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from pydantic import Field, model_validator

from kmax import paths
from kmax.config import Name, Parameters, Run
from kmax.errors import InputError, unknown_name
from kmax.parameter_files import load


class Scratch(Parameters):
    """A run trained from random weights."""

    dataset: Name


class FromWeights(Parameters):
    """A run trained from, or ported from, an entry of params/weights.yaml."""

    dataset: Name
    weights: Name


class Family(Parameters):
    """Runs that belong together, with the datasets and weight files that they read."""

    datasets: list[Name]
    weights: list[Name]
    scratch: dict[Name, Scratch] = Field(description="trained from random weights")
    finetuned: dict[Name, FromWeights] = Field(description="trained from fetched weights")
    ported: dict[Name, FromWeights] = Field(description="converted from fetched weights")
    runs: dict[Name, Scratch | FromWeights] = Field(description="all of the three, in the order of the table")

    @property
    def trained(self) -> list[str]:
        """Names of the runs that are trained here."""
        return [*self.scratch, *self.finetuned]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        parts: dict[str, Scratch | FromWeights] = {**self.scratch, **self.finetuned, **self.ported}
        if len(parts) < len(self.scratch) + len(self.finetuned) + len(self.ported):
            raise ValueError("a run stands in one of 'scratch', 'finetuned' and 'ported' only")
        if self.runs != parts:
            raise ValueError("'runs' must merge exactly 'scratch', 'finetuned' and 'ported'")
        for name, run in parts.items():
            if run.dataset not in self.datasets:
                raise ValueError(
                    f"run '{name}' reads dataset '{run.dataset}', which 'datasets' does not list"
                )
            if isinstance(run, FromWeights) and run.weights not in self.weights:
                raise ValueError(f"run '{name}' needs '{run.weights}', which 'weights' does not list")
        return self


class RunsFile(Parameters):
    """`params/runs.yaml`."""

    default: Name = Field(description="the family that is made by default")
    families: dict[Name, Family]

    @model_validator(mode="after")
    def _known_default(self) -> Self:
        if self.default not in self.families:
            raise ValueError(f"the default family '{self.default}' is not among {', '.join(self.families)}")
        return self


def read() -> RunsFile:
    """Read params/runs.yaml.

    Raises:
        InputError: missing, wrong keys, or lists that contradict each other.
    """
    return load(RunsFile, paths.RUNS_FILE)


def families() -> dict[str, Family]:
    """All families, by name."""
    return read().families


def select(names: Iterable[str] = ()) -> list[str]:
    """Names of runs, from names of runs or families; without any, the runs of the default family.

    Raises:
        InputError: neither a run of some family nor a family.
    """
    file = read()
    known = [*file.families, *(run for family in file.families.values() for run in family.runs)]
    chosen: dict[str, None] = {}
    for name in list(names) or [file.default]:
        if name not in known:
            raise unknown_name("run or family", name, known, str(paths.RUNS_FILE))
        chosen |= dict.fromkeys(file.families[name].runs if name in file.families else [name])
    return list(chosen)


def contradictions(run: Run) -> list[str]:
    """What params/runs.yaml says differently from the run's own file, one line per fault."""
    faults = []
    for name, family in families().items():
        if run.run not in family.runs:
            continue
        if run.port is not None:
            kind, weights = "ported", str(run.port.weights)
        else:
            weights = (run.train and run.train.weights) or ""
            kind = "finetuned" if weights else "scratch"
        expected = {"dataset": run.data.dataset} | ({"weights": weights} if weights else {})
        listed = getattr(family, kind).get(run.run)
        if listed is None or listed.model_dump() != expected:
            faults.append(
                f"{paths.RUNS_FILE}: families.{name}: by {paths.run_file(run.run)} this run stands under "
                f"'{kind}' with {expected}"
            )
    return faults


def check(run: Run) -> None:
    """Raise `InputError` where params/runs.yaml and the run's own file disagree."""
    faults = contradictions(run)
    if faults:
        raise InputError(faults)
