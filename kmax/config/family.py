"""A family of runs, `params/runs/<family>.yaml`: the runs of one table, with shared sections written once."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator
from pydantic.json_schema import SkipJsonSchema

from kmax.config.base import Name, Parameters
from kmax.config.input_data import Data
from kmax.config.model_arguments import Model
from kmax.config.run import Evaluate, Port, Predict, Run
from kmax.config.train import Train


def _without_dot(name: str) -> str:
    if "." in name:
        raise ValueError("a run's name must not contain '.', which separates keys in DVC; write '_' or '-'")
    return name


RunName = Annotated[Name, AfterValidator(_without_dot)]
Values = dict[str, Any] | SkipJsonSchema[None]


class Base(Parameters):
    """Sections, complete or in part, that the runs of a family inherit by YAML anchors and merge keys.

    They are not read from here: YAML references expand in each run, so every YAML reader finds complete runs.
    """

    data: Values = None
    model: Values = None
    train: Values = None
    port: Values = None
    predict: Values = None
    evaluate: Values = None

    @field_validator("*")
    @classmethod
    def _known_keys(cls, value: dict[str, Any] | None, info: Any) -> dict[str, Any] | None:
        section = SECTIONS[info.field_name]
        for key in value or {}:
            if key not in section.model_fields:
                raise ValueError(f"unknown key '{key}'; allowed: {', '.join(sorted(section.model_fields))}")
        return value


SECTIONS: dict[str, type[Parameters]] = {
    "data": Data,
    "model": Model,
    "train": Train,
    "port": Port,
    "predict": Predict,
    "evaluate": Evaluate,
}


class Family(Parameters):
    """Runs that belong together: one table, one DVC pipeline, one Snakemake target."""

    family: Name = Field(description="the file's name without its extension")
    description: str
    default: bool = Field(
        default=False, description="built if no family is named; true in exactly one family"
    )
    base: Base | SkipJsonSchema[None] = Field(default=None, description="sections that all runs inherit")
    runs: Annotated[dict[RunName, Run], Field(min_length=1)]

    @field_validator("runs", mode="before")
    @classmethod
    def _with_names(cls, runs: Any) -> Any:
        """Give each run the name of its key."""
        if not isinstance(runs, dict):
            return runs
        for name, sections in runs.items():
            if isinstance(sections, dict) and "run" in sections:
                raise ValueError(f"{name}: unknown key 'run': the name of a run is its key")
        return {
            name: {"run": name, **sections} if isinstance(sections, dict) else sections
            for name, sections in runs.items()
        }

    @property
    def datasets(self) -> list[str]:
        """Names of the datasets that the runs read."""
        return list(dict.fromkeys(run.data.dataset for run in self.runs.values()))

    @property
    def weights(self) -> list[str]:
        """Entries of params/weights.yaml that the runs start from."""
        return list(dict.fromkeys(run.initial_weights for run in self.runs.values() if run.initial_weights))

    @property
    def trained(self) -> list[str]:
        """Names of the runs that are trained here, from random or downloaded weights."""
        return [name for name, run in self.runs.items() if run.train is not None]

    @property
    def ported(self) -> list[str]:
        """Names of the runs whose weights are converted, not trained."""
        return [name for name, run in self.runs.items() if run.port is not None]
