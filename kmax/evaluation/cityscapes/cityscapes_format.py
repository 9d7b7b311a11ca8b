"""The labels of Cityscapes, and its files, located as the official evaluation scripts do.

Source: the label table of cityscapesScripts 2.3.0, and the average sizes of instances in its evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kmax.errors import InputError
from kmax.folders import Reason, list_files


@dataclass(frozen=True)
class CityscapesLabel:
    """One label.

    Attributes:
        id: value in labelIds PNGs; in instanceIds PNGs also times 1000 plus a number.
        ignored: its pixels count as void.
        average_size: pixels of its average instance in the training set; None: it has no instances.
    """

    id: int
    name: str
    category: str
    ignored: bool
    average_size: float | None = None

    @property
    def has_instances(self) -> bool:
        """Whether its objects are annotated individually."""
        return self.average_size is not None


LABELS = [
    CityscapesLabel(0, "unlabeled", "void", True),
    CityscapesLabel(1, "ego vehicle", "void", True),
    CityscapesLabel(2, "rectification border", "void", True),
    CityscapesLabel(3, "out of roi", "void", True),
    CityscapesLabel(4, "static", "void", True),
    CityscapesLabel(5, "dynamic", "void", True),
    CityscapesLabel(6, "ground", "void", True),
    CityscapesLabel(7, "road", "flat", False),
    CityscapesLabel(8, "sidewalk", "flat", False),
    CityscapesLabel(9, "parking", "flat", True),
    CityscapesLabel(10, "rail track", "flat", True),
    CityscapesLabel(11, "building", "construction", False),
    CityscapesLabel(12, "wall", "construction", False),
    CityscapesLabel(13, "fence", "construction", False),
    CityscapesLabel(14, "guard rail", "construction", True),
    CityscapesLabel(15, "bridge", "construction", True),
    CityscapesLabel(16, "tunnel", "construction", True),
    CityscapesLabel(17, "pole", "object", False),
    CityscapesLabel(18, "polegroup", "object", True),
    CityscapesLabel(19, "traffic light", "object", False),
    CityscapesLabel(20, "traffic sign", "object", False),
    CityscapesLabel(21, "vegetation", "nature", False),
    CityscapesLabel(22, "terrain", "nature", False),
    CityscapesLabel(23, "sky", "sky", False),
    CityscapesLabel(24, "person", "human", False, 3462.4756337644),
    CityscapesLabel(25, "rider", "human", False, 3930.4788056518),
    CityscapesLabel(26, "car", "vehicle", False, 12794.0202738185),
    CityscapesLabel(27, "truck", "vehicle", False, 27855.1264367816),
    CityscapesLabel(28, "bus", "vehicle", False, 35732.1511111111),
    CityscapesLabel(29, "caravan", "vehicle", True, 36771.8241758242),
    CityscapesLabel(30, "trailer", "vehicle", True, 16926.9763313609),
    CityscapesLabel(31, "train", "vehicle", False, 67583.7075812274),
    CityscapesLabel(32, "motorcycle", "vehicle", False, 6298.7200839748),
    CityscapesLabel(33, "bicycle", "vehicle", False, 4672.3249222261),
]
CLASSES = [label for label in LABELS if not label.ignored]
INSTANCE_CLASSES = [label for label in CLASSES if label.has_instances]
CATEGORIES = list(dict.fromkeys(label.category for label in LABELS if label.category != "void"))


@dataclass(frozen=True)
class Frame:
    """One frame, named `<city>_<sequence>_<frame>`: its ground truth and the file of its prediction."""

    name: str
    truth: Path
    predicted: Path


def find_frames(
    truth_dir: Path, predicted_dir: Path, truth_end: str, suffix: str, *, warn: bool = True
) -> tuple[list[Frame], int]:
    """All frames of the ground truth, sorted by name, with their predictions.

    Args:
        truth_dir: a folder such as `gtFine/val`; its files may be at any depth.
        predicted_dir: searched at any depth for `<city>_<sequence>_<frame>*<suffix>`.
        truth_end: the end of the names of ground truth files, such as `_gtFine_instanceIds.png`.
        warn: print what was left out of the folders, and why.

    Returns:
        The frames, and the number of predicted frames that are not in the ground truth.

    Raises:
        InputError: a folder is missing or has no frames; a frame has no prediction, or several, or ground
            truth in several files.
    """
    truths: dict[str, list[Path]] = {}
    for path in _files(truth_dir, truth_end, "folder of the ground truth", warn):
        truths.setdefault(path.name[: -len(truth_end)], []).append(path)
    if not truths:
        raise InputError(f"{truth_dir}: no ground truth: no file *{truth_end} at any depth")
    found: dict[str, list[Path]] = {}
    for path in _files(predicted_dir, suffix, "folder of the predictions", warn):
        if path.name.count("_") >= 2:
            found.setdefault(frame_of(path.stem), []).append(path)
    faults = []
    for name in sorted(truths):
        predictions = found.get(name, [])
        if len(truths[name]) > 1:
            several = ", ".join(str(path.relative_to(truth_dir)) for path in sorted(truths[name])[:3])
            faults.append(f"{truth_dir}: image {name}: {len(truths[name])} files of ground truth: {several}")
        if not predictions:
            faults.append(f"{predicted_dir}: image {name}: no prediction {name}*{suffix} at any depth")
        elif len(predictions) > 1:
            several = ", ".join(str(path.relative_to(predicted_dir)) for path in sorted(predictions)[:3])
            faults.append(f"{predicted_dir}: image {name}: {len(predictions)} predictions: {several}")
    if faults:
        raise InputError(faults)
    frames = [Frame(name, paths[0], found[name][0]) for name, paths in sorted(truths.items())]
    return frames, sum(name not in truths for name in found)


def _files(folder: Path, end: str, what: str, warn: bool) -> list[Path]:
    """The files at any depth whose names end with `end`."""
    found = list_files(folder, {end}, what)
    if warn:
        found.warn(except_for=[Reason.TYPE])
    return found.paths()


def frame_of(stem: str) -> str:
    """`<city>_<sequence>_<frame>` at the start of a name; digits after the second `_` end it."""
    city, sequence, rest = stem.split("_", 2)
    digits = len(rest) - len(rest.lstrip("0123456789"))
    return f"{city}_{sequence}_{rest[:digits]}"
