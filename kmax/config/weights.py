"""Weight files to download, `params/weights.yaml`."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from kmax.checkpoint_formats import CheckpointFormat
from kmax.config.base import Name, Parameters, Sha256


class Weights(Parameters):
    """One entry of `params/weights.yaml`: a checkpoint, by local path or URL."""

    description: str
    url: str | None = None
    path: str | None = None
    sha256: Sha256 | None = Field(
        default=None,
        description="of the file; if omitted: recorded at the first download, and checked from then on",
    )
    format: CheckpointFormat
    state_dict: str | None = Field(
        default=None,
        description="which of several state dicts in a file of the format torch; null: the model's weights",
    )
    encoder: str | None = Field(
        default=None,
        description="model whose pixel encoder loads these ImageNet weights; null: weights of a whole model",
    )

    @field_validator("format", mode="before")
    @classmethod
    def _present_name(cls, value: Any) -> Any:
        if value == "tensorflow":
            raise ValueError("'tensorflow' was renamed: write format: tf")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.url is None) == (self.path is None):
            raise ValueError("give either 'url' or 'path'")
        if self.state_dict is not None and self.format != "torch":
            raise ValueError("state_dict: only for format: torch")
        return self


class WeightsFile(Parameters):
    """`params/weights.yaml`."""

    weights: dict[Name, Weights]
