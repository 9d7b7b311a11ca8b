"""The data of a run, and the conversion of images to network input."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from kmax.config.base import Flavour, Fraction, Name, Parameters, PositiveInt, Size, odd


class CopyPaste(Parameters):
    """Panoptic copy-paste: a second image's things (all) and stuff (a random part) over the first."""

    scale_factor: Annotated[float, Field(gt=0, description="factor on the scale range for the pasted image")]


class Augmentation(Parameters):
    """Augmentation of a training image before padding and cropping to the input size."""

    flip: Fraction = Field(description="probability of a left-right flip")
    scale: Annotated[list[float], Field(min_length=2, max_length=2, description="range of the random scale")]
    scale_step: Annotated[float, Field(ge=0, description="step of the scale list; 0: continuous")]
    color_jitter: Fraction = Field(description="strength of brightness/contrast/saturation jitter; 0: off")
    color_policy: (
        Literal["simple_classification_policy", "simple_classification_policy_magnitude_scale_0.2", "ssd"]
        | None
    ) = Field(
        default=None,
        description="colours of an original: deeplab2's AutoAugment policies (the second on Cityscapes), or "
        "bytedance's distortion",
    )
    redraw_below: PositiveInt | None = Field(
        default=None,
        description="draw another random image if at most this many pixels are labelled at stride 4, "
        "like bytedance (4096)",
    )
    copy_paste: CopyPaste | None

    @model_validator(mode="after")
    def _ascending_scale(self) -> Self:
        low, high = self.scale
        if not 0 < low <= high:
            raise ValueError(f"scale: {self.scale} must be positive and ascending")
        return self

    @model_validator(mode="after")
    def _one_change_of_colors(self) -> Self:
        if self.color_policy is not None and self.color_jitter > 0:
            raise ValueError("color_jitter: must be 0 where a color_policy is given")
        return self


class Preprocessing(Parameters):
    """The conversion of images to network input."""

    preprocessing: Flavour | None = Field(
        default=None,
        description="input pipeline to reproduce exactly, of deeplab2 or bytedance; if omitted: that of "
        "deeplab2, but with a single, antialiased resampling",
    )
    native_size: bool = Field(
        default=False,
        description="keep the size of images (unless larger than the input at test time), like Cityscapes "
        "in deeplab2; if omitted: resized to fit the input",
    )

    @model_validator(mode="after")
    def _native_in_tf(self) -> Self:
        if self.native_size and self.preprocessing == "torch":
            raise ValueError("native_size: bytedance's pipeline has none; remove the key")
        return self


class Data(Preprocessing):
    """The images of a run, and their conversion to network input."""

    dataset: Name
    train_split: str
    val_split: str
    image_size: Annotated[Size, AfterValidator(odd)] = Field(
        description="network input (height, width), both odd"
    )
    train_images: list[str] | None = Field(description="the only images to train on; null: all")
    val_images: list[str] | None = Field(description="the only images to evaluate on; null: all")
    augmentation: Augmentation | None = Field(description="null: resize and pad only")

    def preprocessing_alone(self) -> Preprocessing:
        """The preprocessing that a model's metadata records, for predicting a user's images."""
        return Preprocessing(preprocessing=self.preprocessing, native_size=self.native_size)
