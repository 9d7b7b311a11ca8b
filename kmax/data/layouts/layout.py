"""The interface of layouts: their parameters in a dataset file, and a reader of the splits.

A layout is one module of this package with a subclass of `RawFiles` and a `LayoutReader`, and one member of
the union `kmax.data.dataset_file.DatasetSource`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Protocol, Self

from pydantic import Field, model_validator

from kmax.config import Category, Parameters, PositiveInt, Sha256
from kmax.data.faults import Fault, Faults
from kmax.data.formats.coco_panoptic import IdMap, ImageId, Segment


class RemoteFile(Parameters):
    """A file to download into the data root, and its extracted content."""

    url: str | None = Field(description="null: downloaded by hand, see `by_hand` of the dataset")
    path: str = Field(description="below the data root")
    sha256: Sha256 | None = Field(
        default=None, description="if omitted: recorded at the first download, and checked from then on"
    )
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = Field(
        default=None, description="used if the publisher states no better one"
    )
    bytes: PositiveInt | None = None
    unpack: bool = Field(default=False, description="an archive (zip, tar), unpacked below the data root")
    strip: str = Field(default="", description="folder inside the archive that corresponds to the data root")
    inside: list[str] = Field(
        default=[], description="archives in the archive, by their paths below the data root; unpacked there"
    )
    holds: dict[str, PositiveInt] = Field(
        default={},
        description="the files, and folders with their least number of files, that are extracted from the "
        "archive; where they exist, it is not needed. If omitted: everything is extracted",
    )


class RawFiles(Parameters):
    """A dataset with raw files below `KMAX_DATA_ROOT/<folder>` or `root`."""

    lists_categories: ClassVar[bool] = False
    """Whether the annotation lists the categories, so that the dataset file need not."""

    root: str | None = Field(description="its folder; null: $KMAX_DATA_ROOT/<folder> or data/raw/<dataset>")
    folder: str = Field(description="name of the dataset's folder below KMAX_DATA_ROOT")
    files: list[RemoteFile]
    holdout: Annotated[int, Field(ge=2)] | None = Field(
        default=None,
        description="every N-th image of the only split, train, sorted by name, becomes the split val; "
        "if omitted: the listed splits are used",
    )
    splits: Mapping[str, Parameters]

    @model_validator(mode="after")
    def _holdout_divides_train(self) -> Self:
        if self.holdout is not None and set(self.splits) != {"train"}:
            raise ValueError("holdout: needs 'train' as the only split")
        return self

    def split_names(self) -> list[str]:
        """The splits, including a held-out one."""
        return ["train", "val"] if self.holdout else list(self.splits)

    @abstractmethod
    def annotation_paths(self) -> list[str]:
        """The JSON or the folder of labels of each split, below the root."""

    @abstractmethod
    def reader(self, root: Path, categories: list[Category] | None, dataset_file: Path) -> LayoutReader:
        """Open the files.

        Args:
            root: their folder.
            categories: those of the dataset file, which is named in faults; None: those of the annotation.
        """


class MaskFiles(Parameters):
    """The location of one split below the data root: images, and label PNGs of the same names."""

    images: str
    semantic: str = Field(description="folder of PNGs with each pixel's class")
    instances: str | None = Field(description="folder of PNGs with each pixel's instance; null: none")


# --------------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True, slots=True)
class PanopticLabels:
    """The segments of an image [H, W], with the ids of its pixels or the panoptic PNG that is kept."""

    segments: list[Segment]
    ids: IdMap | None
    png: Path | None = None


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image and how to read its labels; small, and can be sent to another process.

    Attributes:
        position: of the image in the split.
        file_name: the image's name below `images_dir`.
        png_name: name of its panoptic PNG.
        label_files: files with the labels of this image only.
        size: (width, height) as the annotation states it; None: not stated.
        read: given the image's (width, height), reads the labels and adds faults; None: unreadable.
    """

    position: int
    image_id: ImageId
    file_name: str
    images_dir: Path
    png_name: str
    label_files: tuple[Path, ...]
    size: tuple[int, int] | None
    read: Callable[[tuple[int, int], list[Fault]], PanopticLabels | None]


@dataclass(frozen=True)
class RawSplit:
    """The images of a split, one at a time; faults are added while they are read."""

    name: str
    images_dir: str
    total: int
    records: Iterator[ImageRecord]


class LayoutReader(Protocol):
    """A dataset on disk, checked as it is read."""

    @property
    def categories(self) -> list[Category]:
        """In the order of the network's classes; complete when all splits are open."""

    @property
    def shared_files(self) -> list[Path]:
        """Annotation files that cover more than one image."""

    def split(self, name: str, faults: Faults) -> RawSplit:
        """Open a split.

        Raises:
            InputError: its annotation is missing or unreadable as a whole.
        """
