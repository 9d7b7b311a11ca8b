"""Dataset files, `params/datasets/<dataset>.yaml`, and the location of raw files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from kmax import paths
from kmax.config import Category, Name, Parameters
from kmax.data.layouts.ade20k import Ade20k
from kmax.data.layouts.cityscapes import Cityscapes
from kmax.data.layouts.coco_instances import CocoInstances
from kmax.data.layouts.coco_panoptic_layout import CocoPanoptic
from kmax.data.layouts.layout import LayoutReader, RawFiles
from kmax.data.layouts.semantic_masks import SemanticMasks
from kmax.data.shapes.scenes import Generated
from kmax.errors import InputError
from kmax.parameter_files import load_named, names_in

# The registry of layouts: what `kind` can be.
DatasetSource = Annotated[
    Generated | CocoPanoptic | CocoInstances | Cityscapes | Ade20k | SemanticMasks,
    Field(discriminator="kind"),
]


class UnannotatedSplit(Parameters):
    """Images whose annotation only a test server has; they are predicted in place."""

    images: str = Field(description="their folder, below that of the raw files")
    image_info: str | None = Field(
        description="COCO's JSON that lists them, below the folder of the raw files; null: all images in "
        "their folder, at any depth"
    )


class OwnAnnotation(Parameters):
    """The dataset's own annotation of a split, which its official evaluator reads."""

    instance_json: str | None = Field(default=None, description="COCO's instance JSON")
    label_dir: str | None = Field(
        default=None,
        description="Cityscapes: folder of *_gtFine_labelIds.png and *_gtFine_instanceIds.png at any depth; "
        "ADE20K: folder of PNGs of 0 (unlabelled) and classes 1..150",
    )


class Dataset(Parameters):
    """One dataset: `params/datasets/<dataset>.yaml`."""

    dataset: Name
    description: str
    licence: str
    citation: str | None
    by_hand: str | None = Field(
        default=None, description="what a user must do for files without a URL; {folder} is the data root"
    )
    source: DatasetSource
    categories: list[Category] | None = Field(description="null: as the panoptic JSON lists them")
    own_annotation: dict[str, OwnAnnotation] = Field(
        default={}, description="split -> paths below the folder of the raw files; used by evaluation only"
    )
    unannotated: dict[Name, UnannotatedSplit] = Field(
        default={}, description="split -> images without annotation, for `kmax predict RUN --split` only"
    )

    @model_validator(mode="after")
    def _unannotated_splits_are_raw_and_have_other_names(self) -> Self:
        if not isinstance(self.source, RawFiles):
            if self.unannotated:
                raise ValueError("unannotated: a generated dataset has no raw files")
        elif annotated := self.unannotated.keys() & self.source.splits.keys():
            raise ValueError(f"unannotated: {min(annotated)}: an annotated split has this name")
        return self

    @model_validator(mode="after")
    def _categories_unless_the_annotation_lists_them(self) -> Self:
        if self.categories is None and not self.source.lists_categories:
            raise ValueError(f"categories: a dataset of the kind {self.source.kind} must list them")
        return self


def dataset_names() -> list[str]:
    """Names of all dataset files."""
    return names_in(paths.PARAMS / "datasets")


def load_dataset(name: str) -> Dataset:
    """Read `params/datasets/<name>.yaml`.

    Raises:
        InputError: no such dataset (with the nearest name), wrong keys, or another name inside the file.
    """
    return load_named(Dataset, paths.dataset_file(name), "dataset")


def open_layout(dataset: Dataset, root: Path) -> LayoutReader:
    """The reader of a dataset with raw files below `root`."""
    assert isinstance(dataset.source, RawFiles)
    return dataset.source.reader(root, dataset.categories, paths.dataset_file(dataset.dataset))


def raw_root(dataset: Dataset) -> Path:
    """The folder of the raw files of a dataset, which may not exist.

    The dataset file's `root`, else `$KMAX_DATA_ROOT/<folder>`, else `data/raw/<dataset>`. Variables in `root`
    are expanded unless a folder of this very name exists.
    """
    source = dataset.source
    assert isinstance(source, RawFiles)
    if source.root is not None:
        if Path(source.root).is_dir():
            return Path(source.root)
        return Path(os.path.expandvars(source.root)).expanduser()
    data_root = paths.data_root()
    return data_root / source.folder if data_root else paths.raw_manifest(dataset.dataset).parent


def require_raw_root(dataset: Dataset) -> Path:
    """`raw_root`, if it contains the annotation of at least one split.

    Raises:
        InputError: it contains none; the message explains how to specify the location of the data.
    """
    source, root = dataset.source, raw_root(dataset)
    assert isinstance(source, RawFiles)
    candidates = [root / path for path in source.annotation_paths()]
    if any(path.exists() for path in candidates):
        return root
    what = "JSON" if candidates[0].suffix == ".json" else "annotation"
    missing = f"{candidates[0]}: {what}" if root.is_dir() else f"{root}: folder"
    raise InputError(
        f"{missing} of dataset '{dataset.dataset}' not found; for every command, set KMAX_DATA_ROOT to the "
        f"folder that contains {source.folder}/, or 'root' in {paths.dataset_file(dataset.dataset)}"
    )
