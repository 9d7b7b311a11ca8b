"""Datasets by name: their description, where their raw files lie, and their prepared form."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from kmax import paths
from kmax.config import (
    Ade20k,
    Category,
    Cityscapes,
    CocoInstances,
    CocoPanoptic,
    Dataset,
    Name,
    Parameters,
    PositiveInt,
    RawFiles,
    SemanticMasks,
    Sha256,
)
from kmax.errors import InputError, unknown_name
from kmax.files import read_json
from kmax.parameter_files import load_named, names_in, parse

MANIFEST_VERSION = 2


class SplitManifest(Parameters):
    """One split in the manifest of a prepared dataset.

    Attributes:
        images_dir: below the prepared folder for generated datasets, below the data root for others.
        files: CSV of a row per image: its files, size, segments and digests.
        digest: of that CSV and the panoptic JSON.
    """

    num_images: PositiveInt
    num_segments: int
    num_crowd_segments: int
    images_dir: str
    panoptic_json: str
    panoptic_dir: str
    files: str
    digest: Sha256


class Manifest(Parameters):
    """`data/prepared/<dataset>/manifest.json`; it has no absolute path."""

    version: int
    dataset: Name
    digest: Sha256
    categories: list[Category]
    splits: dict[str, SplitManifest]


@dataclass(frozen=True)
class ImageFolder:
    """The images of a split; `images_dir` may be absent on a machine without the raw images."""

    name: str
    images_dir: Path

    def require_images(self) -> None:
        """Tell once that the images are gone, not image by image.

        Raises:
            InputError: their folder is not there.
        """
        if not self.images_dir.is_dir():
            raise InputError(
                f"{self.images_dir}: folder of images not found; they are read where they lay; "
                "bring it back, or name its new place by KMAX_DATA_ROOT or 'root' in the dataset file"
            )


@dataclass(frozen=True)
class PreparedSplit(ImageFolder):
    """One split of a prepared dataset."""

    panoptic_json: Path
    panoptic_dir: Path
    num_images: int


@dataclass(frozen=True)
class UnannotatedImages(ImageFolder):
    """Images without annotation; `image_info` is the JSON that lists them, None: all in the folder."""

    image_info: Path | None


@dataclass(frozen=True)
class Prepared:
    """A prepared dataset; the order of `categories` is that of the network's classes."""

    dataset: str
    categories: list[Category]
    digest: str
    splits: dict[str, PreparedSplit]
    unannotated: dict[str, UnannotatedImages] = field(default_factory=dict)

    def split(self, name: str) -> PreparedSplit:
        """The split of that name.

        Raises:
            InputError: there is none (with the nearest name).
        """
        if name not in self.splits:
            raise unknown_name("split", name, self.splits, f"dataset '{self.dataset}'")
        return self.splits[name]

    def images_of(self, name: str) -> PreparedSplit | UnannotatedImages:
        """The split of that name, annotated or not; errors as of `split`."""
        known: dict[str, PreparedSplit | UnannotatedImages] = {**self.splits, **self.unannotated}
        if name not in known:
            raise unknown_name("split", name, known, f"dataset '{self.dataset}'")
        return known[name]


def dataset_names() -> list[str]:
    """Names of all dataset files."""
    return names_in(paths.PARAMS / "datasets")


def load_dataset(name: str) -> Dataset:
    """Read `params/datasets/<name>.yaml`.

    Raises:
        InputError: no such dataset (with the nearest name), or wrong keys, or the file names another dataset.
    """
    return load_named(Dataset, paths.dataset_file(name), "dataset")


def raw_root(dataset: Dataset) -> Path:
    """Where the raw files of a dataset lie, whether or not they are there.

    The dataset file's `root`, else `$KMAX_DATA_ROOT/<folder>`, else `data/raw/<dataset>`.
    """
    source = dataset.source
    assert isinstance(source, RawFiles)
    if source.root is not None:
        return Path(os.path.expandvars(source.root)).expanduser()
    data_root = paths.data_root()
    return data_root / source.folder if data_root else paths.raw_manifest(dataset.dataset).parent


def require_raw_root(dataset: Dataset) -> Path:
    """`raw_root`, where the annotation of at least one split is there.

    Raises:
        InputError: there is none, with the ways to say where the data lies.
    """
    source, root = dataset.source, raw_root(dataset)
    assert isinstance(source, RawFiles)
    wanted = [root / path for path in _annotation_of_splits(source)]
    if any(path.exists() for path in wanted):
        return root
    what = "JSON" if wanted[0].suffix == ".json" else "annotation"
    missing = f"{wanted[0]}: {what}" if root.is_dir() else f"{root}: folder"
    raise InputError(
        f"{missing} of dataset '{dataset.dataset}' not found; in every call, set KMAX_DATA_ROOT to the "
        f"folder that holds {source.folder}/, or 'root' in {paths.dataset_file(dataset.dataset)}"
    )


def _annotation_of_splits(source: RawFiles) -> list[str]:
    """The JSON or the folder of labels of each split, below the root."""
    match source:
        case CocoPanoptic():
            return [split.panoptic_json for split in source.splits.values()]
        case CocoInstances():
            return [split.instances_json for split in source.splits.values()]
        case Cityscapes():
            return [split.annotations for split in source.splits.values()]
        case Ade20k() | SemanticMasks():
            return [split.semantic for split in source.splits.values()]
    raise AssertionError(source)


def open_prepared(name: str) -> Prepared:
    """Open a prepared dataset.

    Raises:
        InputError: unknown dataset, not prepared yet, or a damaged or outdated manifest.
    """
    dataset = load_dataset(name)
    folder = paths.prepared(name)
    path = paths.prepared_manifest(name)
    if not path.exists():
        raise InputError(f"{path}: not found; prepare the dataset first: kmax data prepare {name}")
    manifest = parse(Manifest, read_json(path, "manifest of the prepared dataset"), path)
    if manifest.version != MANIFEST_VERSION or manifest.dataset != name:
        raise InputError(
            f"{path}: made by another version or for another dataset; run: kmax data prepare {name}"
        )
    images_root = raw_root(dataset) if isinstance(dataset.source, RawFiles) else folder
    return Prepared(
        dataset=name,
        categories=manifest.categories,
        digest=manifest.digest,
        splits={
            split: PreparedSplit(
                name=split,
                images_dir=images_root / entry.images_dir,
                panoptic_json=folder / entry.panoptic_json,
                panoptic_dir=folder / entry.panoptic_dir,
                num_images=entry.num_images,
            )
            for split, entry in manifest.splits.items()
        },
        unannotated={
            split: UnannotatedImages(
                name=split,
                images_dir=images_root / files.images,
                image_info=None if files.image_info is None else images_root / files.image_info,
            )
            for split, files in dataset.unannotated.items()
        },
    )
