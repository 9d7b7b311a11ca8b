"""COCO panoptic layout: PNGs are kept unchanged if they agree with the JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from kmax.config import Category, Parameters
from kmax.data.faults import Fault, FaultKind, Faults
from kmax.data.formats.coco_json import read_header
from kmax.data.formats.coco_panoptic import NO_BOX, VOID_ID, IdMap, Segment
from kmax.data.formats.coco_panoptic_json import WHAT, read_annotations
from kmax.data.formats.png import RGB, decode_ids, open_png
from kmax.data.layouts.coco_layout import CocoReader
from kmax.data.layouts.label_reading import areas_and_boxes, faults_once, has_size
from kmax.data.layouts.layout import ImageRecord, PanopticLabels, RawFiles, RawSplit
from kmax.errors import InputError

MAX_LISTED = 10  # ids named in one fault


class SplitFiles(Parameters):
    """The location of one split below the data root, in COCO panoptic layout."""

    images: str
    panoptic_json: str
    panoptic_dir: str


class CocoPanoptic(RawFiles):
    """A dataset in COCO panoptic layout."""

    lists_categories: ClassVar[bool] = True
    kind: Literal["coco_panoptic"]
    splits: dict[str, SplitFiles]

    def annotation_paths(self) -> list[str]:
        """The panoptic JSONs."""
        return [split.panoptic_json for split in self.splits.values()]

    def reader(self, root: Path, categories: list[Category] | None, dataset_file: Path) -> CocoPanopticReader:
        """Open the files."""
        return CocoPanopticReader(self, root, categories, dataset_file)


def _read_ids(path: Path, faults: list[Fault]) -> IdMap | None:
    """The ids of a panoptic PNG [H, W], by the reader used in training; rejections become faults."""
    kind = FaultKind.UNREADABLE if path.exists() else FaultKind.MISSING
    try:
        png = open_png(path, "panoptic PNG")
        kind = FaultKind.UNREADABLE if png.color_type == RGB and png.bit_depth == 8 else FaultKind.PNG_MODE
        return decode_ids(png)
    except InputError as error:
        faults += [(kind, line) for line in error.faults]
        return None


def read_panoptic(
    path: Path, listed: list[Segment], size: tuple[int, int], faults: list[Fault]
) -> PanopticLabels | None:
    """Check a PNG against the segments listed in the JSON."""
    ids = _read_ids(path, faults)
    if ids is None:
        return None
    has_size(path, "panoptic PNG", ids, size, faults)
    segments = sorted(listed, key=lambda segment: segment.id)
    known = np.array([VOID_ID, *(segment.id for segment in segments)])
    # By runs of equal pixels, of which there are few.
    flat = ids.ravel()
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    lengths, values = np.diff(starts, append=flat.size), flat[starts]
    position = np.searchsorted(known, values).clip(max=len(known) - 1)
    expected = known[position] == values
    if not expected.all():
        strange = np.unique(values[~expected]).tolist()
        more = f" and {len(strange) - MAX_LISTED} more" if len(strange) > MAX_LISTED else ""
        names = ", ".join(map(str, strange[:MAX_LISTED]))
        faults.append(
            (FaultKind.NOT_IN_JSON, f"{path}: ids {names}{more} are in the PNG but not in the JSON")
        )
    areas = np.bincount(position[expected], lengths[expected], minlength=len(known))[1:].astype(int).tolist()
    for segment, area in zip(segments, areas, strict=True):
        if area == 0:
            line = f"{path}: segment {segment.id} is in the JSON but not in the PNG"
            faults.append((FaultKind.NOT_IN_PNG, line))
        elif area != segment.area:
            line = f"{path}: segment {segment.id} has {area} pixels, the JSON says {segment.area}"
            faults.append((FaultKind.AREA, line))
    if any(segment.bbox == NO_BOX for segment in listed):
        index = np.repeat(np.where(expected, position, 0), lengths).reshape(ids.shape).astype(np.int32)
        boxes = dict(zip(known[1:].tolist(), areas_and_boxes(index, len(segments)), strict=True))
        listed = [replace(segment, bbox=boxes[segment.id][1]) for segment in listed]
    return PanopticLabels(listed, None, path)


class CocoPanopticReader(CocoReader[CocoPanoptic]):
    """Panoptic JSONs, each with a folder of PNGs."""

    def split(self, name: str, faults: Faults) -> RawSplit:
        """Open a split."""
        files = self._source.splits[self._listed(name)]
        faults = faults_once(faults, name, self._source.holdout)
        header = read_header(self._root / files.panoptic_json, WHAT, faults)
        names = self._names(header, name, faults)
        images_dir, panoptic_dir = self._root / files.images, self._root / files.panoptic_dir

        position_of = {image_id: i for i, image_id in enumerate(header.images)}

        def records() -> Iterator[ImageRecord]:
            for annotation in read_annotations(header, faults):
                image = header.images[annotation.image_id]
                if image.file_name in names:
                    png = panoptic_dir / annotation.file_name
                    yield ImageRecord(
                        position=position_of[image.id],
                        image_id=image.id,
                        file_name=image.file_name,
                        images_dir=images_dir,
                        png_name=annotation.file_name,
                        label_files=(png,),
                        size=(image.width, image.height),
                        read=partial(read_panoptic, png, annotation.segments),
                    )

        return RawSplit(name, files.images, len(names), records())
