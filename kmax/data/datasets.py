"""Prepared datasets: their manifest, and the images of their splits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kmax import paths
from kmax.config import Category, Name, Parameters, PositiveInt, Sha256
from kmax.data.dataset_file import load_dataset, raw_root
from kmax.data.layouts.layout import RawFiles
from kmax.errors import InputError, unknown_name
from kmax.files import read_json
from kmax.parameter_files import parse

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
    """`data/prepared/<dataset>/manifest.json`; it contains no absolute path."""

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
        """Raise one error if the images are gone, instead of one per image.

        Raises:
            InputError: their folder does not exist.
        """
        if not self.images_dir.is_dir():
            raise InputError(
                f"{self.images_dir}: folder of images not found; images are read from the "
                "raw files; restore it, or set KMAX_DATA_ROOT or 'root' in the dataset file to its new path"
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
            InputError: no such split (suggests the nearest name).
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


def open_prepared(name: str) -> Prepared:
    """Open a prepared dataset.

    Raises:
        InputError: unknown dataset, not prepared yet, or a corrupt or outdated manifest.
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
