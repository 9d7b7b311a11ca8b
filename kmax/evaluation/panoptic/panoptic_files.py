"""Ground truth and predictions in COCO panoptic format, read as the official evaluator reads them.

The official evaluator silently accepts some odd input; what it accepts is accepted here too, so that the
numbers agree, but each kind of oddity is told once. What it dies of becomes one clear line per fault.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kmax.config.evaluator_version import VERSION
from kmax.errors import InputError
from kmax.evaluation.score_provenance import Provenance, files_digest
from kmax.files import read_json

ImageId = int | str


@dataclass(frozen=True)
class CategoryFacts:
    """What the metrics need to know of a category."""

    id: int
    name: str
    isthing: bool


class Oddities:
    """Accepted oddities by kind: where each was found."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, kind: str, where: str) -> None:
        """Note one more oddity of this kind."""
        self._found.setdefault(kind, []).append(where)

    def merge(self, other: Oddities) -> None:
        """Add what another found later."""
        for kind, places in other._found.items():
            self._found.setdefault(kind, []).extend(places)

    def lines(self) -> list[str]:
        """One line per kind: how often, and the first of it."""
        return [
            f"{kind} ({places[0]})"
            if len(places) == 1
            else f"{kind} ({len(places)} times, first: {places[0]})"
            for kind, places in self._found.items()
        ]

    def faults(self) -> list[str]:
        """One line per oddity, for those who refuse them."""
        return [f"{kind} ({where})" for kind, places in self._found.items() for where in places]


@dataclass(frozen=True)
class ImagePair:
    """One image's ground truth and prediction, before the maps are read.

    The two segment lists hold each id once, the later entry of equal ids at the place of the first.
    """

    image_id: ImageId
    truth_path: Path
    predicted_path: Path
    truth_segments: list[dict[str, Any]]
    predicted_segments: list[dict[str, Any]]


@dataclass(frozen=True)
class PanopticFiles:
    """Ground truth and predictions of a split, matched by image id.

    Attributes:
        sha256: of the two PNG files of each image; filled as the images are read.
    """

    truth_json: Path
    predicted_json: Path
    categories: list[CategoryFacts]
    images: list[ImagePair]
    oddities: Oddities = field(default_factory=Oddities)
    sha256: list[tuple[str, str]] = field(default_factory=list)

    def provenance(self, evaluator: str, protocol: str, split: str | None) -> Provenance:
        """Where figures of these files come from, once all images are read.

        Args:
            split: its name; None: the name of the ground truth JSON.
        """
        truth, predicted = (
            files_digest(
                index, ((path.name, one[side]) for path, one in zip(paths, self.sha256, strict=True))
            )
            for side, (index, paths) in enumerate(
                (
                    (self.truth_json, [image.truth_path for image in self.images]),
                    (self.predicted_json, [image.predicted_path for image in self.images]),
                )
            )
        )
        split = split or Path(self.truth_json).stem
        return Provenance(evaluator, VERSION, protocol, split, len(self.images), truth, predicted)


@dataclass(frozen=True)
class PanopticArguments:
    """What the evaluators of COCO panoptic files are asked for.

    Attributes:
        gt_json, gt_dir: ground truth JSON and folder of its PNGs.
        pred_json, pred_dir: the same of the predictions.
        workers: processes that read and match images; None: as many as cores and memory allow.
        strict: refuse odd input that the official evaluator silently accepts, instead of warning.
        split: its name for the provenance; None: the name of the ground truth JSON.
    """

    gt_json: Path
    gt_dir: Path
    pred_json: Path
    pred_dir: Path
    workers: int | None = 1
    strict: bool = False
    split: str | None = None

    def open(self) -> PanopticFiles:
        """Both JSON files, as `open_files` reads them."""
        return open_files(self.gt_json, self.gt_dir, self.pred_json, self.pred_dir)


def open_files(
    truth_json: Path,
    truth_dir: Path,
    predicted_json: Path,
    predicted_dir: Path,
    image_ids: Container[ImageId] | None = None,
) -> PanopticFiles:
    """Read both JSON files and match their images.

    Args:
        image_ids: the only images to evaluate; None: all of the ground truth.

    Raises:
        InputError: a missing folder or file, JSON of another shape, an image without prediction.
    """
    faults = [
        f"{folder}: folder of the {what} PNGs not found"
        for folder, what in ((truth_dir, "ground truth"), (predicted_dir, "predicted"))
        if not Path(folder).is_dir()
    ]
    if faults:
        raise InputError(faults)
    oddities = Oddities()
    truth = _json_object(truth_json, "ground truth JSON", ("categories", "annotations"))
    categories = _categories(truth["categories"], truth_json, oddities)
    predictions: dict[ImageId, dict[str, Any]] = {}
    for entry in read_annotations(predicted_json):
        if entry["image_id"] in predictions:
            oddities.add(
                "predictions: two entries for one image, the last wins", f"image {entry['image_id']}"
            )
        predictions[entry["image_id"]] = entry
    images: list[ImagePair] = []
    seen: dict[ImageId, None] = {}
    for entry in _annotations(truth, truth_json):
        image_id = entry["image_id"]
        if image_ids is not None and image_id not in image_ids:
            continue
        if image_id in seen:
            oddities.add("ground truth: an image is listed twice and counts twice", f"image {image_id}")
        seen[image_id] = None
        prediction = predictions.get(image_id)
        if prediction is None:
            faults.append(
                f"{predicted_json}: image {image_id}: no prediction{_same_text(image_id, predictions)}"
            )
            continue
        images.append(
            ImagePair(
                image_id,
                Path(truth_dir) / entry["file_name"],
                Path(predicted_dir) / prediction["file_name"],
                unique_segments(entry["segments_info"], image_id, "ground truth", oddities),
                unique_segments(prediction["segments_info"], image_id, "predictions", oddities),
            )
        )
    if not seen:
        raise InputError(f"{truth_json}: ground truth JSON: no annotations, so there is nothing to score")
    if faults and not images and predictions:
        first = next(iter(seen))
        advice = _same_text(first, predictions) or " (predictions of another split?)"
        raise InputError(
            f"{predicted_json}: none of its {len(predictions)} images is among the {len(seen)} of "
            f"{truth_json}, such as image {first}{advice}"
        )
    if faults:
        raise InputError(faults)
    for image_id in predictions.keys() - seen.keys():
        oddities.add("predictions: an image that the ground truth lacks is ignored", f"image {image_id}")
    return PanopticFiles(Path(truth_json), Path(predicted_json), categories, images, oddities)


def read_annotations(path: Path) -> list[dict[str, Any]]:
    """The annotations of predictions in COCO panoptic format.

    Raises:
        InputError: missing, or JSON of another shape: every fault.
    """
    return _annotations(_json_object(path, "prediction JSON", ("annotations",)), path)


def _json_object(path: Path, what: str, keys: tuple[str, ...]) -> dict[str, Any]:
    value = read_json(path, what)
    if not isinstance(value, dict):
        raise InputError(f"{path}: {what}: not a JSON object")
    faults = [f"{path}: {what}: '{key}' is missing or not a list" for key in keys if not _is_list(value, key)]
    if faults:
        raise InputError(faults)
    return value


def _is_list(value: dict[str, Any], key: str) -> bool:
    return isinstance(value.get(key), list) and all(isinstance(entry, dict) for entry in value[key])


def _categories(entries: list[dict[str, Any]], path: Path, oddities: Oddities) -> list[CategoryFacts]:
    faults = [
        f"{path}: categories[{index}]: '{key}' is missing or not a number"
        for index, entry in enumerate(entries)
        for key in ("id", "isthing")
        if not isinstance(entry.get(key), int)
    ]
    if faults:
        raise InputError(faults)
    categories: dict[int, CategoryFacts] = {}
    for entry in entries:
        if entry["id"] in categories:
            oddities.add("ground truth: a category is listed twice, the last wins", f"category {entry['id']}")
        name = str(entry.get("name", entry["id"]))
        categories[entry["id"]] = CategoryFacts(entry["id"], name, entry["isthing"] == 1)
    if not categories:
        raise InputError(f"{path}: no categories")
    return list(categories.values())


def _annotations(value: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """The annotations, each with a usable image id, file name and list of segments with ids."""
    faults = []
    for index, entry in enumerate(value["annotations"]):
        where = f"{path}: annotations[{index}]"
        if type(entry.get("image_id")) not in (int, str):
            faults.append(f"{where}: 'image_id' is missing or neither a number nor a text")
        elif not isinstance(entry.get("file_name"), str):
            faults.append(f"{where} (image {entry['image_id']}): 'file_name' is missing or no text")
        elif not _is_list(entry, "segments_info"):
            faults.append(f"{where} (image {entry['image_id']}): 'segments_info' is missing or not a list")
        else:
            faults.extend(_segment_faults(entry, where))
    if faults:
        raise InputError(faults)
    return value["annotations"]  # type: ignore[no-any-return]


def _segment_faults(entry: dict[str, Any], where: str) -> list[str]:
    faults = []
    for number, segment in enumerate(entry["segments_info"]):
        here = f"{where} (image {entry['image_id']}): segments_info[{number}]"
        if type(segment.get("id")) is not int or not 0 <= segment["id"] < 2**24:
            faults.append(f"{here}: 'id' is {segment.get('id')!r:.40}, not a number in 0..{2**24 - 1}")
        elif type(segment.get("category_id", 0)) is not int:
            faults.append(f"{here}: segment {segment['id']}: category_id is not a whole number")
        elif type(segment.get("area", 0)) not in (int, float) or not abs(segment.get("area", 0)) < 2**53:
            faults.append(f"{here}: segment {segment['id']}: area is not a number")
    return faults


def unique_segments(
    listed: list[dict[str, Any]], image_id: ImageId, side: str, oddities: Oddities
) -> list[dict[str, Any]]:
    """Each id once, as `ImagePair` holds them; `side` says whose they are."""
    segments: dict[int, dict[str, Any]] = {}
    for segment in listed:
        if segment["id"] in segments:
            where = f"image {image_id} segment {segment['id']}"
            oddities.add(f"{side}: two entries of one segment id, the last wins", where)
        segments[segment["id"]] = segment
    return list(segments.values())


def _same_text(image_id: ImageId, predictions: dict[ImageId, Any]) -> str:
    """Advice where only the type of the id differs."""
    other: ImageId = str(image_id)
    if isinstance(image_id, str):
        other = int(image_id) if image_id.isdecimal() else image_id
    if other in predictions and other != image_id:
        return f" (there is one for {other!r}; ids must have the same type, here {type(image_id).__name__})"
    return ""
