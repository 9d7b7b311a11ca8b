"""The training parameters of a run."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kmax.config.base import Flavour, Name, Parameters, PositiveInt


class Sampling(Parameters):
    """Pixels drawn with probabilities from the inverse area of their segments."""

    k: PositiveInt = Field(description="number of pixels per image; smaller images use all")
    temperature: float


class SmallInstances(Parameters):
    """A larger weight for pixels of small thing instances in the semantic loss."""

    area: PositiveInt = Field(
        description="instances of fewer pixels than this, at input resolution, are small"
    )
    weight: Annotated[float, Field(gt=0)]


class Losses(Parameters):
    """Weights and sampling of the loss terms."""

    class_weight: float
    dice_weight: float
    mask_id_weight: float
    instance_discrimination_weight: float
    semantic_weight: float
    sample_k: PositiveInt = Field(description="pixels drawn for the instance discrimination loss")
    sample_temperature: float
    semantic_sampling: Sampling | None = Field(
        default=None, description="pixels drawn for the semantic loss; if omitted: all pixels"
    )
    semantic_top_k: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="fraction of pixels, those with the largest semantic losses, that count; if omitted: all",
    )
    small_instances: SmallInstances | None = Field(
        default=None, description="their weight in the semantic loss; if omitted: 1"
    )
    native_auxiliary: bool = Field(
        default=False,
        description="compute the losses of the k-means layers at their native strides; if omitted: at the "
        "final one, as in both originals",
    )


class Train(Parameters):
    """The training recipe."""

    seed: Annotated[int, Field(ge=0)]
    weights: Name | None = Field(description="entry of params/weights.yaml to start from; null: from scratch")
    steps: PositiveInt
    global_batch_size: PositiveInt = Field(description="images per step, over all GPUs and accumulation")
    learning_rate: Annotated[float, Field(gt=0)]
    warmup_steps: Annotated[int, Field(ge=0)]
    poly_power: float
    backbone_lr_multiplier: float
    weight_decay: Annotated[float, Field(ge=0)]
    adam_betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)]
    adam_epsilon: float
    optimizer: Flavour | None = Field(
        default=None,
        description="AdamW and warm-up: deeplab2's (epsilon outside the bias correction, "
        "first rate 0) or torch's (first rate a thousandth); if omitted: that of the model's flavour",
    )
    clip_grad_norm: Annotated[float, Field(gt=0)] | None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        description="decay of the averaged weights that are published; null: the last weights"
    )
    precision: Literal["fp32", "bf16"]
    losses: Losses
    checkpoint_every: PositiveInt = Field(description="steps between checkpoints")
    log_every: PositiveInt = Field(description="steps between rows of history.csv")

    @model_validator(mode="after")
    def _warm_before_the_end(self) -> Self:
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps: {self.warmup_steps} is more than the {self.steps} steps")
        return self
