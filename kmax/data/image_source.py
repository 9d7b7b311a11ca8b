"""Decoded images and labels of one split; small datasets stay in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.data.datasets import Prepared
from kmax.data.formats.coco_panoptic import (
    VOID_ID,
    Annotation,
    IdMap,
    Image,
    read_image_words,
    read_map,
    select_images,
)
from kmax.data.formats.coco_panoptic_json import read_panoptic_json
from kmax.errors import InputError

CACHE_BYTES = 384 * 2**20
VOID_OWNER, PADDING_OWNER, NOT_PASTED = 0, -1, -2  # owners of pixels that belong to no segment


@dataclass(frozen=True)
class SegmentLabels:
    """Classes and flags of the segments of an image; element i belongs to the owner i + 1.

    Attributes:
        classes: int64 [M], contiguous.
        isthing: bool [M].
        iscrowd: bool [M].
    """

    classes: NDArray[np.int64]
    isthing: NDArray[np.bool_]
    iscrowd: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.classes)


@dataclass(frozen=True)
class DecodedImage:
    """One image.

    Attributes:
        rgb: uint8 [H, W, 3], or [H, W, 4] with an unused last channel, so that a pixel is one word.
        owner: [H, W], 0 for void, else 1 + the index of the segment.
        labels: of the segments.
    """

    image: Image
    rgb: NDArray[np.uint8]
    owner: NDArray[Any]
    labels: SegmentLabels

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the pixels take."""
        return self.rgb.nbytes + self.owner.nbytes


class ImageSource:
    """Decoded images of one split by index; the first ones read are kept, up to `cache_bytes`."""

    def __init__(
        self, prepared: Prepared, split: str, names: list[str] | None, where: str, cache_bytes: int
    ) -> None:
        self.split = prepared.split(split)
        self.split.require_images()
        content = read_panoptic_json(self.split.panoptic_json)
        self.images = select_images(content.images, names, where)
        annotation_of = {annotation.image_id: annotation for annotation in content.annotations}
        self._annotations = [annotation_of[image.id] for image in self.images]
        self._class_of = {category.id: i for i, category in enumerate(prepared.categories)}
        self._isthing = np.array([category.isthing for category in prepared.categories])
        self._cache: dict[int, DecodedImage] = {}
        self._cache_left = cache_bytes

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> DecodedImage:
        """The image of that index.

        Raises:
            InputError: a file is missing, truncated, or of another size than stated in the JSON.
        """
        if index in self._cache:
            return self._cache[index]
        decoded = self._decode(self.images[index], self._annotations[index])
        if decoded.nbytes <= self._cache_left:
            self._cache_left -= decoded.nbytes
            self._cache[index] = decoded
        return decoded

    def _decode(self, image: Image, annotation: Annotation) -> DecodedImage:
        image_path = self.split.images_dir / image.file_name
        png_path = self.split.panoptic_dir / annotation.file_name
        rgb, ids = read_image_words(image_path), read_map(png_path)
        for path, shape in ((image_path, rgb.shape), (png_path, ids.shape)):
            if shape[:2] != (image.height, image.width):
                raise InputError(
                    f"{path}: is {shape[1]}x{shape[0]}, the JSON says {image.width}x{image.height}; "
                    f"prepare the dataset again"
                )
        labels, owner_of_id = self._labels(annotation)
        owner = owners_of(ids, owner_of_id)
        if isinstance(owner, int):
            raise InputError(f"{png_path}: id {owner} is in the PNG but not in {self.split.panoptic_json}")
        return DecodedImage(image, rgb, owner, labels)

    def _labels(self, annotation: Annotation) -> tuple[SegmentLabels, dict[int, int]]:
        """The segments' labels and the owner of each id; stuff of one class is one segment."""
        classes: list[int] = []
        crowd: list[bool] = []
        owner_of_id: dict[int, int] = {}
        owner_of_stuff: dict[int, int] = {}
        for segment in annotation.segments:
            index = self._class_of[segment.category_id]
            if not self._isthing[index] and not segment.iscrowd and index in owner_of_stuff:
                owner_of_id[segment.id] = owner_of_stuff[index]
                continue
            classes.append(index)
            crowd.append(segment.iscrowd)
            owner_of_id[segment.id] = len(classes)
            if not self._isthing[index] and not segment.iscrowd:
                owner_of_stuff[index] = len(classes)
        array = np.array(classes, np.int64)
        return SegmentLabels(array, self._isthing[array], np.array(crowd, bool)), owner_of_id


def owners_of(ids: IdMap, owner_of_id: dict[int, int]) -> NDArray[Any] | int:
    """The owner of each pixel, in the smallest sufficient type; or the first id that is not listed."""
    from kmax.data.formats.png_loops import look_up  # here: numba takes half a second to import

    owner_of_id = {VOID_ID: VOID_OWNER, **owner_of_id}
    most = max(owner_of_id.values())
    kind = np.uint8 if most < 2**8 else np.uint16 if most < 2**16 else np.int32
    listed = sorted(owner_of_id)
    owners = np.array([owner_of_id[key] for key in listed], kind)
    owner = np.empty(ids.shape, kind)
    strange = look_up(ids, np.array(listed, np.int32), owners, owner)
    return owner if strange < 0 else strange
