"""Finding the ground truth of Cityscapes and what was predicted for each frame, as its scripts find them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kmax.errors import InputError


@dataclass(frozen=True)
class Frame:
    """One frame, named `<city>_<sequence>_<frame>`: its ground truth and the file of its prediction."""

    name: str
    truth: Path
    predicted: Path


def find_frames(truth_dir: Path, predicted_dir: Path, truth_end: str, suffix: str) -> tuple[list[Frame], int]:
    """All frames of the ground truth, by name, with their predictions.

    Args:
        truth_dir: a folder such as `gtFine/val`; its files may lie at any depth.
        predicted_dir: searched at any depth for `<city>_<sequence>_<frame>*<suffix>`.
        truth_end: how names of ground truth files end, such as `_gtFine_instanceIds.png`.

    Returns:
        The frames, and the number of files with predictions of no frame of the ground truth.

    Raises:
        InputError: a folder is missing or has no frames; a frame has no prediction, or several.
    """
    faults = [
        f"{folder}: folder of the {what} not found"
        for folder, what in ((truth_dir, "ground truth"), (predicted_dir, "predictions"))
        if not Path(folder).is_dir()
    ]
    if faults:
        raise InputError(faults)
    truths = {
        path.name.removesuffix(truth_end): path for path in _files(truth_dir) if path.name.endswith(truth_end)
    }
    if not truths:
        raise InputError(f"{truth_dir}: no ground truth: no file *{truth_end} at any depth")
    found: dict[str, list[Path]] = {}
    for path in _files(predicted_dir):
        if path.suffix == suffix and path.name.count("_") >= 2:
            found.setdefault(frame_of(path.stem), []).append(path)
    for name in sorted(truths):
        predictions = found.get(name, [])
        if not predictions:
            faults.append(f"{predicted_dir}: image {name}: no prediction {name}*{suffix} at any depth")
        elif len(predictions) > 1:
            several = ", ".join(str(path.relative_to(predicted_dir)) for path in sorted(predictions)[:3])
            faults.append(f"{predicted_dir}: image {name}: {len(predictions)} predictions: {several}")
    if faults:
        raise InputError(faults)
    frames = [Frame(name, path, found[name][0]) for name, path in sorted(truths.items())]
    return frames, sum(name not in truths for name in found)


def _files(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        yield from (Path(root) / name for name in names)


def frame_of(stem: str) -> str:
    """`<city>_<sequence>_<frame>` of a name that goes on with anything but a digit."""
    city, sequence, rest = stem.split("_", 2)
    digits = len(rest) - len(rest.lstrip("0123456789"))
    return f"{city}_{sequence}_{rest[:digits]}"
