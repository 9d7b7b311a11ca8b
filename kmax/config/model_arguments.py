"""The arguments of `kmax.create_model`, as stored in run parameters and the metadata of weight files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from kmax.config.base import Flavour, Parameters, PositiveInt
from kmax.config.model_sizes import SIZES

CrossAttention = Literal["kmeans", "cmt", "softmax"]  # how the cluster centres are updated from pixels


def _known_model(name: str) -> str:
    if name not in SIZES:
        raise ValueError(f"unknown model '{name}'; available: {', '.join(SIZES)}")
    return name


def _pair(value: Any) -> Any:
    """Accept lists (JSON) and tuples (Python)."""
    numbers = isinstance(value, Sequence) and all(type(number) is int for number in value)
    if not numbers or len(value) != 2:
        raise ValueError("expected two whole numbers, (height, width)")
    return tuple(value)


ModelName = Annotated[str, AfterValidator(_known_model), Field(json_schema_extra={"enum": list(SIZES)})]
DropRate = Annotated[float, Field(ge=0.0, lt=1.0)]


class Model(Parameters):
    """The network of a run, independent of its dataset."""

    name: ModelName = Field(description="an entry of kmax/config/model_sizes.py")
    flavour: Flavour = Field(description="original implementation to reproduce: deeplab2 or bytedance")
    num_clusters: PositiveInt = Field(description="cluster centres (object queries)")
    decoder_stages: Annotated[int, Field(ge=4, le=5)] = Field(
        description="stages of the pixel decoder: 4, on Cityscapes 5"
    )
    cross_attention: CrossAttention
    drop_path: DropRate = Field(description="drop rate of the transformer decoder's residual updates")
    backbone_drop_path: DropRate = Field(description="largest drop rate in the backbone")


class ModelArguments(Model):
    """A network for a dataset: all arguments of `kmax.create_model` but its weights.

    Attributes:
        num_classes: classes of the dataset, without void.
        image_size: (height, width) of the images, both odd.
    """

    num_classes: PositiveInt
    image_size: Annotated[tuple[PositiveInt, PositiveInt], BeforeValidator(_pair)]

    def as_json(self) -> dict[str, Any]:
        """As JSON values, in the order used in weight files."""
        values = self.model_dump(mode="json")
        return {key: values[key] for key in ("name", "num_classes", "image_size")} | values
