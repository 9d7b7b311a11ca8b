"""A run, an entry of `params/runs/<family>.yaml`: its model and the parameters of its stages."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from kmax.checkpoint_formats import CheckpointFormat
from kmax.config.base import Fraction, Name, Parameters, PositiveInt
from kmax.config.input_data import Data
from kmax.config.metrics import (
    EVALUATORS,
    ApRules,
    Evaluator,
    MapMetric,
    MiouRules,
    descriptions_of,
)
from kmax.config.model_arguments import Model
from kmax.config.train import Train


class Port(Parameters):
    """Where a ported run's weights come from."""

    weights: Name = Field(description="entry of params/weights.yaml")
    source: CheckpointFormat = Field(description="program that wrote the weights, and named their tensors")


class Predict(Parameters):
    """Post-processing of the network's output, and which kinds of predictions are written."""

    mode: Literal["maskwise", "pixelwise"] = Field(
        description="paste whole masks, or classify each pixel separately (flavour tf only)"
    )
    pixel_threshold: Fraction
    class_threshold_thing: Fraction
    class_threshold_stuff: Fraction
    overlap_threshold: Fraction
    reorder_class_weight: float
    reorder_mask_weight: float
    thing_area_limit: Annotated[int, Field(ge=0)]
    stuff_area_limit: Annotated[int, Field(ge=0)]
    batch_size: PositiveInt
    pictures: Annotated[int, Field(ge=0)] = Field(
        description="number of images with pictures of overlays and clusters"
    )
    instances: Literal["coco", "cityscapes"] | None = Field(
        default=None,
        description="also write instances with scores, for AP: a COCO JSON of results, or a text file and "
        "masks per frame as for Cityscapes; if omitted: none",
    )
    semantic: bool = Field(
        default=False,
        description="also write label PNGs of category ids, for mean IoU; if omitted: none",
    )


class Evaluate(Parameters):
    """The evaluators of the predictions."""

    metrics: Annotated[list[MapMetric], Field(min_length=1)] = Field(
        description=f"metrics of the panoptic maps. {descriptions_of('metrics')}"
    )
    ap: ApRules | None = Field(
        default=None,
        description=f"AP of the instance predictions; if omitted: none. {descriptions_of('ap')}",
    )
    miou: MiouRules | None = Field(
        default=None,
        description=f"mean IoU of the semantic predictions; if omitted: none. {descriptions_of('miou')}",
    )
    bootstrap_samples: PositiveInt
    bootstrap_seed: Annotated[int, Field(ge=0)]

    def evaluators(self) -> list[Evaluator]:
        """The selected evaluators, in the order of the table of metrics."""
        selected: dict[str, list[Any]] = {"metrics": self.metrics, "ap": [self.ap], "miou": [self.miou]}
        return [one for one in EVALUATORS if one.value in selected[one.option]]


class Run(Parameters):
    """One run, complete, with its name: `kmax params show RUN`."""

    run: Name
    description: str
    data: Data
    model: Model
    train: Train | None = None
    port: Port | None = None
    predict: Predict
    evaluate: Evaluate

    @property
    def initial_weights(self) -> str | None:
        """The entry of params/weights.yaml that the run is trained or ported from; None: random weights."""
        return self.port.weights if self.port else self.train.weights if self.train else None

    def on_split(self, split: str | None) -> Self:
        """This run with its val images replaced by all images of a split; None: unchanged."""
        if split is None:
            return self
        data = self.data.model_copy(update={"val_split": split, "val_images": None})
        return self.model_copy(update={"data": data})

    @model_validator(mode="after")
    def _trained_or_ported(self) -> Self:
        if (self.train is None) == (self.port is None):
            raise ValueError("a run needs either a 'train' or a 'port' section")
        return self

    @model_validator(mode="after")
    def _mode_of_the_flavour(self) -> Self:
        if self.predict.mode == "pixelwise" and self.model.flavour != "tf":
            raise ValueError("predict.mode: pixelwise is available in flavour tf only; use maskwise")
        return self

    @model_validator(mode="after")
    def _predictions_for_the_metrics(self) -> Self:
        for one in self.evaluate.evaluators():
            for key, value in one.needs.items():
                if getattr(self.predict, key) != value:
                    shown = str(value).lower()
                    raise ValueError(f"evaluate.{one.option}: {one.value} needs predict.{key}: {shown}")
            if one.whole_split and self.data.val_images is not None:
                name = f"evaluate.{one.option}: {one.value}"
                raise ValueError(f"{name} needs the whole split; remove data.val_images")
        return self
