"""Weight files to fetch, `params/weights.yaml`."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from kmax.checkpoint_formats import CheckpointFormat
from kmax.config.base import Name, Parameters, Sha256


class Weights(Parameters):
    """One entry of `params/weights.yaml`: a checkpoint, by local path or URL."""

    description: str
    url: str | None = None
    path: str | None = None
    sha256: Sha256 | None = Field(
        default=None,
        description="of the file; omitted: recorded at the first fetch, and checked from then on",
    )
    format: CheckpointFormat
    encoder: str | None = Field(
        default=None,
        description="the model whose pixel encoder takes these ImageNet weights; null: a whole model",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.url is None) == (self.path is None):
            raise ValueError("give either 'url' or 'path'")
        return self


class WeightsFile(Parameters):
    """`params/weights.yaml`."""

    weights: dict[Name, Weights]
