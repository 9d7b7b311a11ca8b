"""Types shared by all parameter files."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Flavour = Literal["tf", "torch"]  # the original implementation: deeplab2 or bytedance/kmax-deeplab
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveInt = Annotated[int, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
Size = Annotated[list[PositiveInt], Field(min_length=2, max_length=2)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Parameters(BaseModel):
    """Base of all parameter models: strict types, no unknown keys, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def odd(size: list[int]) -> list[int]:
    """The size, if both sides are odd."""
    if any(side % 2 == 0 for side in size):
        raise ValueError("both sides must be odd, such as 129 or 641")
    return size
