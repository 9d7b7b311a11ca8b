"""Reading label PNGs and folders of files, shared by several layouts."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from kmax.data.faults import Fault, FaultKind, Faults
from kmax.data.formats.coco_panoptic import Segment
from kmax.data.formats.image_file import UnreadableImageError, open_image
from kmax.folders import FolderFiles, Reason, is_utf8, list_files

# How Pillow stretches the numbers of grey PNGs of 2 and 4 bits, by its name of their data.
_STEPS = {"L;2": 255 // 3, "L;4": 255 // 15}
AreaAndBox = tuple[int, tuple[int, int, int, int]]  # pixels; (x, y, width, height)


def read_png(path: Path, what: str, modes: tuple[str, ...], faults: list[Fault]) -> NDArray[Any] | None:
    """The pixels of a label PNG; None, and a fault, if it is missing, corrupt or of another mode.

    Pixels of 1, 2 or 4 bits are the stored numbers: a one-bit mask has the values 0 and 1.
    """
    try:
        with open_image(path, what) as image:
            if image.mode in modes:
                return _stored(image)
            faults.append((FaultKind.PNG_MODE, f"{path}: {what} is {image.mode}, not {' or '.join(modes)}"))
    except UnreadableImageError as error:
        faults.append((FaultKind.MISSING if error.missing else FaultKind.UNREADABLE, str(error)))
    return None


def _stored(image: PillowImage.Image) -> NDArray[Any]:
    """The numbers stored in a label image; Pillow stretches those of few bits to 0..255."""
    tiles = getattr(image, "tile", ())  # (decoder, extent, offset, name of the data)
    step = _STEPS.get(tiles[0][3], 1) if image.format == "PNG" and tiles else 1
    pixels = np.asarray(image)
    return pixels.astype(np.uint8) if pixels.dtype == bool else pixels // step if step > 1 else pixels


def has_size(path: Path, what: str, labels: NDArray[Any], size: tuple[int, int], faults: list[Fault]) -> bool:
    """Whether a label map [H, W, ...] has the (width, height) of its image."""
    height, width = labels.shape[:2]
    if (width, height) != size:
        faults.append((FaultKind.SIZE, f"{path}: {what} is {width}x{height}, the image {size[0]}x{size[1]}"))
    return (width, height) == size


def areas_and_boxes(index: NDArray[Any], number: int) -> list[AreaAndBox]:
    """(area, bbox) of the pixels of each value 1..number of a map [H, W]; zeros for values without pixels."""
    from scipy import ndimage  # here: dataset files are read without its 0.3 seconds of import

    areas = np.bincount(index.ravel(), minlength=number + 1)
    boxes = ndimage.find_objects(index, number)
    return [
        (int(areas[i + 1]), (x.start, y.start, x.stop - x.start, y.stop - y.start) if box else (0, 0, 0, 0))
        for i, box in enumerate(boxes)
        for y, x in [box or (slice(0, 0), slice(0, 0))]
    ]


def segment(id: int, category_id: int, measured: AreaAndBox, *, iscrowd: bool = False) -> Segment:
    """A segment of the area and the box that `areas_and_boxes` found."""
    return Segment(id, category_id, measured[0], measured[1], iscrowd)


def images_of_split(
    names: Iterable[str], split: str, holdout: int | None, where: Path, faults: Faults
) -> set[str]:
    """The images of a split: all of them, or its part of a holdout.

    The holdout puts the first image by name, and every `holdout`-th from there, into the split val. If that
    leaves none for training, as with one image, a warning says so.

    Args:
        where: the JSON or the folder that lists the images.
    """
    every = set(names)
    if holdout is None:
        return every
    val = set(sorted(every)[::holdout])
    if split == "val":
        return val
    if every and every == val:
        faults.warn(
            f"{where}: 1 image, which is held out for validation, so that none is left for training; "
            "add images, or give those for validation separately"
        )
    return every - val


def faults_once(faults: Faults, split: str, holdout: int | None) -> Faults:
    """The collector for faults of shared files: with a holdout, both splits read the same files."""
    return Faults() if holdout and split != "train" else faults


def listed(
    folder: Path,
    endings: Collection[str],
    what: str,
    faults: Faults,
    *,
    deep: bool = True,
    except_for: Collection[Reason] = (),
) -> FolderFiles:
    """The files of a folder; a warning says what was left out, and why.

    Args:
        endings, what, deep: as in `list_files`.
        except_for: reasons that are not reported.

    Raises:
        InputError: the folder does not exist or cannot be read.
    """
    found = list_files(folder, endings, what, deep=deep)
    if notice := found.notice(except_for):
        faults.warn(notice)
    return found


def by_stem(found: FolderFiles, what: str, faults: Faults) -> dict[str, str]:
    """Names by name without suffix; adds a fault for each set of files that differ in their suffix only."""
    for line in found.stem_faults(what):
        faults.add(FaultKind.DUPLICATE, line)
    for name in found.names:
        if not is_utf8(name):
            line = f"{found.folder / name}: the name is not valid UTF-8; rename the file"
            faults.add(FaultKind.UNUSABLE_NAME, line)
    return {stem: names[0] for stem, names in found.by_stem().items() if is_utf8(names[0])}
