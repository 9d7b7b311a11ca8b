"""Where the raw files of a dataset come from, and how they lie."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kmax.config.base import Parameters, PositiveInt, Sha256, Size


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


class UnannotatedSplit(Parameters):
    """Images that nobody but a test server has the annotation of; predicted where they lie."""

    images: str = Field(description="their folder, below that of the raw files")
    image_info: str | None = Field(
        description="COCO's JSON that lists them, below the folder of the raw files; null: all images in "
        "their folder, at any depth"
    )


class OwnAnnotation(Parameters):
    """The dataset's own annotation of a split, by which its official evaluator judges."""

    instance_json: str | None = Field(default=None, description="COCO's instance JSON")
    label_dir: str | None = Field(
        default=None,
        description="Cityscapes: folder of *_gtFine_labelIds.png and *_gtFine_instanceIds.png at any depth; "
        "ADE20K: folder of PNGs of 0 (unlabelled) and classes 1..150",
    )
