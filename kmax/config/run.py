"""A run, `params/runs/<run>.yaml`: its model and what is done with it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kmax.config.base import Fraction, Name, Parameters, PositiveInt
from kmax.config.input_data import Data
from kmax.config.model_arguments import Model
from kmax.config.train import Train


class Port(Parameters):
    """Where a ported run's weights come from."""

    weights: Name = Field(description="entry of params/weights.yaml")
    source: Literal["tf", "torch", "safetensors"] = Field(description="program that named the tensors")


class Predict(Parameters):
    """Post-processing of the network's output, and which kinds of predictions are written."""

    mode: Literal["maskwise", "pixelwise"] = Field(
        description="masks pasted whole, or each pixel by itself (flavour tf only)"
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
    pictures: Annotated[int, Field(ge=0)] = Field(description="images with pictures of overlays and clusters")
    instances: Literal["coco", "cityscapes"] | None = Field(
        default=None,
        description="also write instances with scores, for AP: a COCO JSON of results, or a text file and "
        "masks per frame as for Cityscapes; left out: none",
    )
    semantic: bool = Field(
        default=False,
        description="also write label PNGs of category ids, for mean IoU; left out: none",
    )


class Evaluate(Parameters):
    """Which evaluators judge the predictions."""

    metrics: Annotated[
        list[Literal["pq", "pq_deeplab2", "miou_panoptic", "ceiling"]], Field(min_length=1)
    ] = Field(
        description="of the panoptic maps. pq_deeplab2: PQ by deeplab2's own rules; miou_panoptic: mean IoU "
        "of the segments' classes; ceiling: PQ that ground truth keeps on the stride-4 grid of the "
        "network's output"
    )
    ap: Literal["coco", "cityscapes", "panoptic_annotation"] | None = Field(
        default=None,
        description="AP of the instance predictions against the dataset's own instance annotation, by its "
        "rules, or against the things of the panoptic annotation, by COCO's; left out: none",
    )
    miou: Literal["cityscapes", "ade20k", "panoptic_annotation"] | None = Field(
        default=None,
        description="mean IoU of the semantic predictions against the dataset's own label maps, by its "
        "rules, or against the classes of the panoptic annotation; left out: none",
    )
    bootstrap_samples: PositiveInt
    bootstrap_seed: Annotated[int, Field(ge=0)]


class Run(Parameters):
    """One run, complete: `params/runs/<run>.yaml`."""

    run: Name
    description: str
    data: Data
    model: Model
    train: Train | None = None
    port: Port | None = None
    predict: Predict
    evaluate: Evaluate

    def on_split(self, split: str | None) -> Self:
        """This run with all images of a split in place of its val images; None: as it is."""
        if split is None:
            return self
        data = self.data.model_copy(update={"val_split": split, "val_images": None})
        return self.model_copy(update={"data": data})

    @model_validator(mode="after")
    def _trained_or_ported(self) -> Self:
        if (self.train is None) == (self.port is None):
            raise ValueError("a run has either a 'train' or a 'port' section")
        return self

    @model_validator(mode="after")
    def _mode_of_the_flavour(self) -> Self:
        if self.predict.mode == "pixelwise" and self.model.flavour != "tf":
            raise ValueError("predict.mode: pixelwise exists in the flavour tf only; take maskwise")
        return self

    @model_validator(mode="after")
    def _predictions_for_the_metrics(self) -> Self:
        ap, miou = self.evaluate.ap, self.evaluate.miou
        wanted = "cityscapes" if ap == "cityscapes" else "coco"
        if ap is not None and self.predict.instances != wanted:
            raise ValueError(f"evaluate.ap: {ap} needs predict.instances: {wanted}")
        if miou is not None and not self.predict.semantic:
            raise ValueError(f"evaluate.miou: {miou} needs predict.semantic: true")
        if self.data.val_images is not None and (ap == "cityscapes" or miou in ("cityscapes", "ade20k")):
            raise ValueError("evaluate: the datasets' own rules judge whole splits, not data.val_images")
        return self
