"""One frame of Cityscapes' instance evaluation: which predicted masks cover which ground truth, in pixels."""

from __future__ import annotations

import hashlib
import io
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kmax.data.formats.png import GREY, PngFile, decode_labels, decode_mask, filtered_lines, open_png
from kmax.errors import InputError, InputWarnings
from kmax.evaluation.cityscapes.cityscapes_format import INSTANCE_CLASSES, LABELS, Frame

INSTANCE_ID = 1000
_CLASS_INDEX = {label.id: index for index, label in enumerate(INSTANCE_CLASSES)}
_KNOWN = {label.id for label in LABELS} | {-1}
# Ids of regions, not of instances: an instance of an ignored label (a caravan, 29001) is not void.
_VOID = [label.id for label in LABELS if label.ignored]


@dataclass(frozen=True)
class FrameOverlaps:
    """Counts of one frame, or of several in a row. G ground truth regions, P predictions, O overlaps.

    Attributes:
        truth_class: [G], index into INSTANCE_CLASSES.
        truth_pixels: [G].
        truth_group: [G], whether the region is a group of objects that are not annotated individually.
        predicted_class, predicted_pixels, void_pixels: [P]; the last counts pixels on void ground truth.
        confidence: float64 [P].
        overlap: [O, 3]: prediction, ground truth region of the same class, common pixels (positive).
        sha256: of the ground truth, and name and digest of each predicted file.
    """

    truth_class: NDArray[np.int64]
    truth_pixels: NDArray[np.int64]
    truth_group: NDArray[np.bool_]
    predicted_class: NDArray[np.int64]
    predicted_pixels: NDArray[np.int64]
    void_pixels: NDArray[np.int64]
    confidence: NDArray[np.float64]
    overlap: NDArray[np.int64]
    sha256: tuple[list[tuple[str, str]], list[tuple[str, str]]]


def count_frame(frame: Frame, warnings: InputWarnings, predicted_dir: Path) -> FrameOverlaps:
    """Read one frame's instanceIds PNG, its predictions' text file and their masks.

    Raises:
        InputError: every invalid line or mask.
    """
    truth_png = open_png(frame.truth, f"image {frame.name}: instanceIds PNG")
    truth = decode_labels(truth_png)
    below = PixelsBelow(truth)
    label_ids = np.where(below.ids < INSTANCE_ID, below.ids, below.ids // INSTANCE_ID)
    class_of = np.array([_CLASS_INDEX.get(label, -1) for label in label_ids.tolist()], np.int64)
    void, counted = np.isin(below.ids, _VOID), np.flatnonzero(class_of >= 0)
    class_of = class_of[counted]

    rows: list[tuple[int, int, int, float]] = []
    overlaps: list[tuple[int, int, int]] = []
    faults: list[str] = []
    lines, text_digest, line_faults = read_lines(frame, predicted_dir, warnings)
    faults.extend(line_faults)
    digests, root = [(frame.predicted.name, text_digest)], os.path.abspath(predicted_dir) + os.sep
    for path, (label, confidence) in lines.items():
        try:
            png = open_png(path, f"image {frame.name}: label {label}: mask")
            pixels = _pixels_below(png, truth_png, below)
        except InputError as error:
            faults.extend(error.faults)
            continue
        digests.append((str(path).removeprefix(root), png.sha256))
        if not pixels.any():
            warnings.add("predictions: an empty mask is skipped", f"image {frame.name} mask {path.name}")
            continue
        index = _CLASS_INDEX[label]
        rows.append((index, int(pixels.sum()), int(pixels[void].sum()), confidence))
        pixels = pixels[counted]
        regions = np.flatnonzero((class_of == index) & (pixels > 0))
        overlaps.extend((len(rows) - 1, region, int(pixels[region])) for region in regions.tolist())
    if faults:
        raise InputError(faults)
    columns = np.array(rows, np.float64).reshape(-1, 4)
    return FrameOverlaps(
        class_of,
        below.areas[counted],
        below.ids[counted] < INSTANCE_ID,
        columns[:, 0].astype(np.int64),
        columns[:, 1].astype(np.int64),
        columns[:, 2].astype(np.int64),
        columns[:, 3],
        np.array(overlaps, np.int64).reshape(-1, 3),
        ([(frame.truth.name, truth_png.sha256)], digests),
    )


def _pixels_below(png: PngFile, truth_png: PngFile, below: PixelsBelow) -> NDArray[np.int64]:
    """Pixels of the mask per ground truth id."""
    if png.size != truth_png.size:
        raise InputError(
            f"{png.path}: {png.what} of {png.size} pixels, but the ground truth has {truth_png.size}"
        )
    return below.count(png)


def read_lines(
    frame: Frame, predicted_dir: Path, warnings: InputWarnings
) -> tuple[dict[Path, tuple[int, float]], str, list[str]]:
    """Label and confidence of each mask that the text file of a frame lists, and the faults in it.

    Returns:
        The masks by their absolute paths, the SHA-256 of the text, and the faults.
    """
    try:
        data = frame.predicted.read_bytes()
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        return {}, "", [f"{frame.predicted}: image {frame.name}: cannot be read as text: {error}"]
    # Only names matter, as for the official scripts: the files may be symbolic links.
    root, beside = os.path.abspath(predicted_dir), os.path.abspath(frame.predicted.parent)
    found: dict[Path, tuple[int, float]] = {}
    faults = []
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        where = f"{frame.predicted}: image {frame.name}: line {number}"
        words = line.removesuffix("\n").split(" ")  # single spaces, as the official evaluator expects
        if len(words) != 3:
            faults.append(f"{where}: expected 'mask label confidence', found {len(words)} words")
            continue
        name = os.path.normpath(os.path.join(beside, words[0]))
        if os.path.isabs(words[0]) or not name.startswith(root + os.sep):
            faults.append(f"{where}: mask {words[0]} is outside the prediction folder")
            continue
        label, confidence = _number(words[1]), _number(words[2])
        if label is None or int(label) not in _KNOWN:
            faults.append(f"{where}: unknown label {words[1]}")
        elif confidence is None:
            faults.append(f"{where}: label {int(label)}: confidence {words[2]} is not a finite number")
        elif int(label) not in _CLASS_INDEX:
            warnings.add(
                "predictions: a label without evaluated instances is skipped", f"{where}: {words[1]}"
            )
        else:
            path = Path(name)
            if path in found:
                warnings.add("predictions: a mask is listed twice, the last line is used", where)
            found[path] = (int(label), confidence)
    return found, hashlib.sha256(data).hexdigest(), faults


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


class PixelsBelow:
    """Counts the pixels that masks share with each id of a ground truth map.

    Attributes:
        ids: int64 [N], the ids that occur, ascending.
        areas: int64 [N], pixels of each id.
    """

    def __init__(self, truth: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
        """Count the ids of a map [H, W]."""
        self._truth = truth
        self._counts = np.zeros(int(truth.max()) + 1, np.int64)
        self._count(truth.reshape(-1))
        self.ids = self._counts.nonzero()[0]
        self.areas = self._taken()

    def count(self, mask: PngFile) -> NDArray[np.int64]:
        """Pixels of each id [N] below the non-zero pixels of a mask.

        Raises:
            InputError: the mask is corrupt.
            ValueError: it has another size than the map.
        """
        if (mask.height, mask.width) != self._truth.shape:
            raise ValueError(f"a mask of {mask.size} pixels on a map of shape {self._truth.shape}")
        lines = filtered_lines(mask) if mask.color_type == GREY and mask.bit_depth == 8 else None
        if lines is None:
            self._count(self._truth[decode_mask(mask)])
        else:
            from kmax.evaluation.cityscapes.cityscapes_mask_loops import count_below_lines

            data = lines.reshape(-1)
            count_below_lines(data, _words(data), self._truth, self._counts)
        return self._taken()

    def _count(self, values: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
        # Imported here because numba takes half a second to import.
        from kmax.evaluation.cityscapes.cityscapes_mask_loops import count_values

        if len(values):
            count_values(values, _words(values), self._counts)

    def _taken(self) -> NDArray[np.int64]:
        """The counts of all ids, which are reset to 0."""
        taken = self._counts[self.ids]
        self._counts[self.ids] = 0
        return taken


def _words(values: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint64]:
    """The bytes of an array as uint64, without an incomplete last word."""
    return values[: values.nbytes // 8 * 8 // values.itemsize].view(np.uint64)
