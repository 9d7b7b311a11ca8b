"""A dataset, `params/datasets/<dataset>.yaml`."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from kmax.config.base import Name, Parameters
from kmax.config.layouts import (
    Ade20k,
    Cityscapes,
    CocoInstances,
    CocoPanoptic,
    Generated,
    OwnAnnotation,
    SemanticMasks,
    UnannotatedSplit,
)


class Category(Parameters):
    """One class of a dataset; the list order is the order of the network's classes."""

    id: Annotated[int, Field(ge=0)]
    name: str
    isthing: bool
    color: Annotated[list[int], Field(min_length=3, max_length=3)]


class Dataset(Parameters):
    """One dataset: `params/datasets/<dataset>.yaml`."""

    dataset: Name
    description: str
    licence: str
    citation: str | None
    by_hand: str | None = Field(
        default=None, description="what a user must do where files have no URL; {folder} is the data root"
    )
    source: Annotated[
        Generated | CocoPanoptic | CocoInstances | Cityscapes | Ade20k | SemanticMasks,
        Field(discriminator="kind"),
    ]
    categories: list[Category] | None = Field(description="null: as the panoptic JSON lists them")
    own_annotation: dict[str, OwnAnnotation] = Field(
        default={}, description="split -> paths below the folder of the raw files; read by evaluation alone"
    )
    unannotated: dict[Name, UnannotatedSplit] = Field(
        default={}, description="split -> images without annotation, for `kmax predict RUN --split` alone"
    )

    @model_validator(mode="after")
    def _unannotated_splits_have_names_and_a_place_of_their_own(self) -> Self:
        if self.unannotated and isinstance(self.source, Generated):
            raise ValueError("unannotated: a generated dataset has no raw files")
        if twice := self.unannotated.keys() & getattr(self.source, "splits", {}).keys():
            raise ValueError(f"unannotated: {min(twice)}: a split of this name has an annotation")
        return self

    @model_validator(mode="after")
    def _categories_where_no_json_lists_them(self) -> Self:
        if self.categories is None and not isinstance(self.source, CocoPanoptic | CocoInstances | Generated):
            raise ValueError(f"categories: a dataset of the kind {self.source.kind} must list them")
        return self
