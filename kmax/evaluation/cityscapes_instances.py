"""One frame of Cityscapes' instance evaluation: which predicted masks cover which ground truth, in pixels."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kmax.data.png import PngFile, decode_labels, decode_mask, open_png
from kmax.errors import InputError
from kmax.evaluation.cityscapes_files import Frame
from kmax.evaluation.cityscapes_labels import INSTANCE_CLASSES, LABELS
from kmax.evaluation.files import Oddities

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
        truth_group: [G], whether the region is a group of objects that were not told apart.
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


def count_frame(frame: Frame, predicted_dir: Path, oddities: Oddities) -> FrameOverlaps:
    """Read one frame's instanceIds PNG, its predictions' text file and their masks.

    Raises:
        InputError: every line or mask that is not what it should be.
    """
    truth_png = open_png(frame.truth, f"image {frame.name}: instanceIds PNG")
    truth = decode_labels(truth_png, "instanceIds PNG").reshape(-1)
    areas = np.bincount(truth)
    ids = np.flatnonzero(areas)
    label_ids = np.where(ids < INSTANCE_ID, ids, ids // INSTANCE_ID)
    class_of = np.array([_CLASS_INDEX.get(label, -1) for label in label_ids.tolist()], np.int64)
    counted = class_of >= 0
    ids, class_of = ids[counted], class_of[counted]

    rows: list[tuple[int, int, int, float]] = []
    overlaps: list[tuple[int, int, int]] = []
    faults: list[str] = []
    lines, text_digest, line_faults = read_lines(frame, predicted_dir, oddities)
    faults.extend(line_faults)
    digests = [(frame.predicted.name, text_digest)]
    for path, (label, confidence) in lines.items():
        try:
            png = open_png(path, f"image {frame.name}: mask")
            on_truth = _truth_below(png, truth_png, truth, frame.name)
        except InputError as error:
            faults.extend(error.faults)
            continue
        digests.append((str(path.relative_to(predicted_dir.resolve())), png.sha256))
        if not len(on_truth):
            oddities.add("predictions: an empty mask is left out", f"image {frame.name} mask {path.name}")
            continue
        pixels = np.bincount(on_truth, minlength=max(len(areas), INSTANCE_ID))
        index = _CLASS_INDEX[label]
        rows.append((index, len(on_truth), int(pixels[_VOID].sum()), confidence))
        regions = np.flatnonzero((class_of == index) & (pixels[ids] > 0))
        overlaps.extend((len(rows) - 1, region, int(pixels[ids[region]])) for region in regions.tolist())
    if faults:
        raise InputError(faults)
    columns = np.array(rows, np.float64).reshape(-1, 4)
    return FrameOverlaps(
        class_of,
        areas[ids],
        ids < INSTANCE_ID,
        columns[:, 0].astype(np.int64),
        columns[:, 1].astype(np.int64),
        columns[:, 2].astype(np.int64),
        columns[:, 3],
        np.array(overlaps, np.int64).reshape(-1, 3),
        ([(frame.truth.name, truth_png.sha256)], digests),
    )


def _truth_below(
    png: PngFile, truth_png: PngFile, truth: NDArray[np.uint8] | NDArray[np.uint16], name: str
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Ground truth ids below the mask, one per pixel of it."""
    if png.size != truth_png.size:
        raise InputError(
            f"{png.path}: image {name}: mask of {png.size} pixels, but the ground truth has {truth_png.size}"
        )
    return truth[_positions(decode_mask(png).reshape(-1))]


def _positions(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Where a flat mask is true; masks are mostly empty, so eight pixels are looked at as one word first."""
    whole = len(mask) // 8 * 8
    words = mask[:whole].view(np.uint64)
    occupied = np.flatnonzero(words != 0)
    inside = np.flatnonzero(words[occupied].view(np.bool_))
    places = occupied[inside >> 3] * 8 + (inside & 7)
    return np.concatenate([places, np.flatnonzero(mask[whole:]) + whole])


def read_lines(
    frame: Frame, predicted_dir: Path, oddities: Oddities
) -> tuple[dict[Path, tuple[int, float]], str, list[str]]:
    """Label and confidence of each mask that the text file of a frame lists, and the faults in it.

    Returns:
        The masks, the SHA-256 of the text, and the faults.
    """
    try:
        data = frame.predicted.read_bytes()
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        return {}, "", [f"{frame.predicted}: image {frame.name}: cannot be read as text: {error}"]
    root = predicted_dir.resolve()
    found: dict[Path, tuple[int, float]] = {}
    faults = []
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"{frame.predicted}: image {frame.name}: line {number}"
        words = line.split()
        if len(words) != 3:
            faults.append(f"{where}: expected 'mask label confidence', found {len(words)} words")
            continue
        if "\0" in words[0]:
            faults.append(f"{where}: the name of the mask is no name")
            continue
        path = (frame.predicted.parent / words[0]).resolve()
        if Path(words[0]).is_absolute() or not path.is_relative_to(root):
            faults.append(f"{where}: mask {words[0]} is outside of the folder of predictions")
            continue
        label, confidence = _number(words[1]), _number(words[2])
        if label is None or int(label) not in _KNOWN:
            faults.append(f"{where}: unknown label {words[1]}")
        elif confidence is None:
            faults.append(f"{where}: label {int(label)}: confidence {words[2]} is not a finite number")
        elif int(label) not in _CLASS_INDEX:
            oddities.add(
                "predictions: a label without evaluated instances is left out", f"{where}: {words[1]}"
            )
        else:
            if path in found:
                oddities.add("predictions: a mask is listed twice, the last line counts", where)
            found[path] = (int(label), confidence)
    return found, hashlib.sha256(data).hexdigest(), faults


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
