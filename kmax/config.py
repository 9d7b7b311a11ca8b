"""The parameters of every run, dataset and weight file, as typed models of the YAML files in `params/`.

Everything that affects a result is written in those files: fields have no defaults (where a field may be
left out, leaving it out means "not used"). YAML reads `1e-5` as a string, so strings are never taken for
numbers: write `1.0e-5`. `kmax.parameter_files` reads them.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Flavour = Literal["tf", "torch"]  # whose choices hold: deeplab2's or bytedance's
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveInt = Annotated[int, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
Size = Annotated[list[PositiveInt], Field(min_length=2, max_length=2)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Parameters(BaseModel):
    """Base of all parameter models: strict types, no unknown keys, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _odd(size: list[int]) -> list[int]:
    if any(side % 2 == 0 for side in size):
        raise ValueError("both sides must be odd, such as 129 or 641")
    return size


# ------------------------------------------------------------------------------------------------- run files


class CopyPaste(Parameters):
    """Panoptic copy-paste: a second image's things (all) and stuff (a random part) over the first."""

    scale_factor: Annotated[float, Field(gt=0, description="scale range of the pasted image, times this")]


class Augmentation(Parameters):
    """What happens to a training image before it is padded and cropped to the input size."""

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
        description="take another random image where no more pixels than this are labelled at stride 4, "
        "like bytedance (4096)",
    )
    copy_paste: CopyPaste | None

    @model_validator(mode="after")
    def _ascending_scale(self) -> Self:
        low, high = self.scale
        if not 0 < low <= high:
            raise ValueError(f"scale: the range {self.scale} must be above 0 and ascend")
        return self

    @model_validator(mode="after")
    def _one_change_of_colors(self) -> Self:
        if self.color_policy is not None and self.color_jitter > 0:
            raise ValueError("color_jitter: must be 0 where a color_policy is given")
        return self


class Preprocessing(Parameters):
    """How images become network input."""

    preprocessing: Flavour | None = Field(
        default=None,
        description="the original whose input pipeline holds, to the pixel: deeplab2's or bytedance's; left "
        "out: deeplab2's, but each image resampled once and smoothed where it shrinks",
    )
    native_size: bool = Field(
        default=False,
        description="images keep their size (unless larger than the input at test time), like Cityscapes "
        "in deeplab2; left out: resized to fit the input",
    )

    @model_validator(mode="after")
    def _native_in_tf(self) -> Self:
        if self.native_size and self.preprocessing == "torch":
            raise ValueError("native_size: bytedance's pipeline has none; leave it out")
        return self


class Data(Preprocessing):
    """Which images a run reads, and how they become network input."""

    dataset: Name
    train_split: str
    val_split: str
    image_size: Annotated[Size, AfterValidator(_odd)] = Field(
        description="network input (height, width); both odd"
    )
    train_images: list[str] | None = Field(description="the only images to train on; null: all")
    val_images: list[str] | None = Field(description="the only images to evaluate on; null: all")
    augmentation: Augmentation | None = Field(description="null: resize and pad only")

    def preprocessing_alone(self) -> Preprocessing:
        """What a model's file keeps, for pictures of one's own."""
        return Preprocessing(preprocessing=self.preprocessing, native_size=self.native_size)


class Model(Parameters):
    """Arguments of `kmax.create_model`, and the weights it starts from."""

    name: Literal[
        "kmax_tiny",
        "kmax_resnet50",
        "kmax_max_s",
        "kmax_convnext_tiny",
        "kmax_convnext_small",
        "kmax_convnext_base",
        "kmax_convnext_large",
    ]
    flavour: Flavour = Field(description="which original is computed: deeplab2 or bytedance")
    num_clusters: PositiveInt = Field(description="cluster centres (object queries)")
    decoder_stages: Literal[4, 5] = Field(description="stages of the pixel decoder; 5 on Cityscapes")
    cross_attention: Literal["kmeans", "cmt", "softmax"]
    drop_path: Fraction = Field(description="drop rate of the transformer decoder's residual updates")
    backbone_drop_path: Fraction = Field(description="largest drop rate in the backbone")


class Sampling(Parameters):
    """Pixels drawn by the inverse area of their segments."""

    k: PositiveInt = Field(description="how many; all where an image has no more")
    temperature: float


class SmallInstances(Parameters):
    """Pixels of small thing instances count more in the semantic loss."""

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
        default=None, description="pixels drawn for the semantic loss; left out: all"
    )
    semantic_top_k: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="share of the pixels, the worst ones, in the semantic loss; left out: all"
    )
    small_instances: SmallInstances | None = Field(
        default=None, description="their weight in the semantic loss; left out: that of all pixels"
    )
    native_auxiliary: bool = Field(
        default=False,
        description="losses of the k-means layers at their native strides; left out: at the final one, "
        "like both originals",
    )


class Train(Parameters):
    """The training recipe."""

    seed: Annotated[int, Field(ge=0)]
    weights: Name | None = Field(description="entry of params/weights.yaml to start from; null: from scratch")
    steps: PositiveInt
    global_batch_size: PositiveInt = Field(description="images a step, over all GPUs and accumulation")
    learning_rate: Annotated[float, Field(gt=0)]
    warmup_steps: Annotated[int, Field(ge=0)]
    poly_power: float
    backbone_lr_multiplier: float
    weight_decay: Annotated[float, Field(ge=0)]
    adam_betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)]
    adam_epsilon: float
    optimizer: Flavour | None = Field(
        default=None,
        description="whose AdamW and warm-up: deeplab2's (epsilon outside the bias correction, first rate 0) "
        "or torch's (first rate a thousandth); left out: as the model's flavour",
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
            raise ValueError(f"warmup_steps: {self.warmup_steps} are more than the {self.steps} steps")
        return self


class Port(Parameters):
    """Where a ported run's weights come from."""

    weights: Name = Field(description="entry of params/weights.yaml")
    source: Literal["tf", "torch", "safetensors"] = Field(description="whose names the tensors carry")


class Predict(Parameters):
    """Post-processing of the network's output, and which kinds of predictions are written."""

    mode: Literal["maskwise", "pixelwise"] = Field(
        description="masks pasted whole, or each pixel on its own (flavour tf only)"
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
    pictures: Annotated[int, Field(ge=0)] = Field(description="images to draw overlays and cluster maps of")
    instances: Literal["coco", "cityscapes"] | None = Field(
        default=None,
        description="instances with scores beside the panoptic maps, for AP: a COCO JSON of results, or a "
        "text file and masks per frame as Cityscapes wants them; left out: none",
    )
    semantic: bool = Field(
        default=False,
        description="label PNGs of category ids beside the panoptic maps, for mean IoU; left out: none",
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


# --------------------------------------------------------------------------------------------- dataset files


class Generated(Parameters):
    """The `shapes` dataset, drawn from a seed."""

    kind: Literal["shapes"]
    seed: Annotated[int, Field(ge=0)]
    image_size: Size
    images: dict[str, PositiveInt] = Field(description="split -> number of images")


class SplitFiles(Parameters):
    """Where one split lies under the data root, in COCO panoptic layout."""

    images: str
    panoptic_json: str
    panoptic_dir: str


class RemoteFile(Parameters):
    """One file to download into the data root, and what comes out of it."""

    url: str | None = Field(description="null: it is fetched by hand, as `by_hand` of the dataset says")
    path: str = Field(description="below the data root")
    sha256: Sha256 | None = Field(
        default=None, description="left out: recorded at the first download, and checked from then on"
    )
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = Field(
        default=None, description="where the publishers state no better one"
    )
    bytes: PositiveInt | None = None
    unpack: bool = Field(default=False, description="an archive (zip, tar), unpacked below the data root")
    strip: str = Field(default="", description="folder inside the archive that stands for the data root")
    inside: list[str] = Field(
        default=[], description="archives in the archive, by their paths below the data root; unpacked there"
    )
    holds: dict[str, PositiveInt] = Field(
        default={},
        description="the files, and folders with their least number of files, that are taken out of the "
        "archive; where they are there, it is not needed. Left out: all that is in it",
    )


class RawFiles(Parameters):
    """A dataset whose raw files lie below `KMAX_DATA_ROOT/<folder>` or `root`."""

    root: str | None = Field(description="its folder; null: $KMAX_DATA_ROOT/<folder> or data/raw/<dataset>")
    folder: str = Field(description="name of the dataset's folder below KMAX_DATA_ROOT")
    files: list[RemoteFile]
    holdout: Annotated[int, Field(ge=2)] | None = Field(
        default=None,
        description="each so-many-th image of the only split, train, by name, makes up the split val; "
        "left out: the splits are those listed",
    )

    @model_validator(mode="after")
    def _train_is_held_out_from(self) -> Self:
        if self.holdout is not None and set(getattr(self, "splits", {})) != {"train"}:
            raise ValueError("holdout: needs 'train' as the only split, whose images it divides")
        return self


class CocoPanoptic(RawFiles):
    """A dataset in COCO panoptic layout."""

    kind: Literal["coco_panoptic"]
    splits: dict[str, SplitFiles]


class InstanceFiles(Parameters):
    """Where one split lies under the data root, in the layout of COCO's instance annotation."""

    images: str
    instances_json: str


class CocoInstances(RawFiles):
    """A dataset in the layout of COCO's instance annotation: polygons and run-lengths of things."""

    kind: Literal["coco_instances"]
    splits: dict[str, InstanceFiles]
    background: str | None = Field(
        description="name of the stuff class that all other pixels belong to; null: they are void"
    )


class CityscapesFiles(Parameters):
    """Where one split of Cityscapes lies under the data root; a folder per city in each."""

    images: str
    annotations: str = Field(description="folder of */*_gtFine_instanceIds.png")


class Cityscapes(RawFiles):
    """Cityscapes as it is downloaded."""

    kind: Literal["cityscapes"]
    splits: dict[str, CityscapesFiles]


class MaskFiles(Parameters):
    """Where one split lies under the data root: images, and label PNGs of the same names."""

    images: str
    semantic: str = Field(description="folder of PNGs that hold each pixel's class")
    instances: str | None = Field(description="folder of PNGs that hold each pixel's instance; null: none")


class Ade20k(RawFiles):
    """ADEChallengeData2016 with its instance annotation, as they are downloaded."""

    kind: Literal["ade20k"]
    splits: dict[str, MaskFiles]


class SemanticMasks(RawFiles):
    """Grey PNGs of category ids, and optionally of instance numbers (0: none)."""

    kind: Literal["semantic_masks"]
    splits: dict[str, MaskFiles]
    void: Annotated[int, Field(ge=0)] = Field(description="the value of pixels without a label")


class OwnAnnotation(Parameters):
    """The dataset's own annotation of a split, by which its official evaluator judges."""

    instance_json: str | None = Field(default=None, description="COCO's instance JSON")
    label_dir: str | None = Field(
        default=None,
        description="Cityscapes: folder of *_gtFine_labelIds.png and *_gtFine_instanceIds.png at any depth; "
        "ADE20K: folder of PNGs of 0 (unlabelled) and classes 1..150",
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

    @model_validator(mode="after")
    def _categories_where_no_json_lists_them(self) -> Self:
        if self.categories is None and not isinstance(self.source, CocoPanoptic | CocoInstances | Generated):
            raise ValueError(f"categories: a dataset of the kind {self.source.kind} must list them")
        return self


# ---------------------------------------------------------------------------------------------- weight files


class Weights(Parameters):
    """One entry of `params/weights.yaml`: a checkpoint, by local path or URL."""

    description: str
    url: str | None = None
    path: str | None = None
    sha256: Sha256 | None = Field(
        default=None,
        description="of the file; left out: recorded at the first fetch, and checked from then on",
    )
    format: Literal["safetensors", "torch", "tensorflow"]
    encoder: str | None = Field(
        default=None,
        description="the model whose pixel encoder these are ImageNet weights of; null: of a model",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.url is None) == (self.path is None):
            raise ValueError("give either 'url' or 'path'")
        return self


class WeightsFile(Parameters):
    """`params/weights.yaml`."""

    weights: dict[Name, Weights]
