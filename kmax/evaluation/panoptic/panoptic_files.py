"""Ground truth and predictions in COCO panoptic format, matched by image.

The official evaluator silently accepts some unusual input. It is accepted here too, so that the numbers
agree, but each kind is reported once (`InputWarnings`). Input that crashes the official evaluator is rejected
with one line per fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kmax.data.formats.coco_json import JsonObject
from kmax.data.formats.coco_panoptic import CategoryFacts, Image, ImageId, PanopticJson
from kmax.data.formats.coco_panoptic_json import read_ground_truth, read_predictions
from kmax.errors import InputError, InputWarnings
from kmax.evaluation.score_provenance import Provenance, files_digest
from kmax.evaluator_version import VERSION


@dataclass(frozen=True)
class ImagePair:
    """Ground truth and prediction of one image, before the maps are read.

    The segment lists hold each id once: of entries with equal ids the last, at the position of the first.
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
    warnings: InputWarnings = field(default_factory=InputWarnings)
    sha256: list[tuple[str, str]] = field(default_factory=list)

    def provenance(self, evaluator: str, protocol: str, split: str | None) -> Provenance:
        """The provenance of scores of these files; available once all images are read.

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
    """The arguments of the evaluators of COCO panoptic files.

    Attributes:
        gt_json, gt_dir: ground truth JSON and folder of its PNGs.
        pred_json, pred_dir: the same of the predictions.
        workers: processes that read and match images; None: as many as cores and memory allow.
        strict: reject unusual input that the official evaluator silently accepts, instead of warning.
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


def open_files(truth_json: Path, truth_dir: Path, predicted_json: Path, predicted_dir: Path) -> PanopticFiles:
    """Read both JSON files as the official evaluator does, and match their images.

    Raises:
        InputError: a missing folder or file, JSON of another structure, an image without prediction.
    """
    _require_folders(truth_dir, predicted_dir)
    warnings = InputWarnings()
    categories, annotations = read_ground_truth(truth_json, warnings)
    files = PanopticFiles(Path(truth_json), Path(predicted_json), categories, [], warnings)
    _match_images(files, annotations, Path(truth_dir), Path(predicted_dir))
    return files


def open_predictions(
    truth: PanopticJson, images: Sequence[Image], truth_dir: Path, predicted_json: Path, predicted_dir: Path
) -> PanopticFiles:
    """Match predictions with ground truth that has been read and validated before.

    Args:
        images: the images of `truth` to evaluate.

    Raises:
        InputError: as `open_files`.
    """
    _require_folders(truth_dir, predicted_dir)
    chosen = {image.id for image in images}
    annotations = [
        {
            "image_id": annotation.image_id,
            "file_name": annotation.file_name,
            "segments_info": [
                {"id": s.id, "category_id": s.category_id, "area": s.area, "iscrowd": int(s.iscrowd)}
                for s in annotation.segments
            ],
        }
        for annotation in truth.annotations
        if annotation.image_id in chosen
    ]
    categories = [CategoryFacts(c.id, c.name, c.isthing) for c in truth.categories]
    files = PanopticFiles(truth.path, predicted_json, categories, [])
    _match_images(files, annotations, truth_dir, predicted_dir)
    return files


def _require_folders(truth_dir: Path, predicted_dir: Path) -> None:
    faults = [
        f"{folder}: folder of the {what} PNGs not found"
        for folder, what in ((truth_dir, "ground truth"), (predicted_dir, "predicted"))
        if not Path(folder).is_dir()
    ]
    if faults:
        raise InputError(faults)


def _match_images(
    files: PanopticFiles, annotations: Sequence[JsonObject], truth_dir: Path, predicted_dir: Path
) -> None:
    """Read the predictions, and add a pair to `files` for each annotation of the ground truth."""
    warnings, truth_json, predicted_json = files.warnings, files.truth_json, files.predicted_json
    if not annotations:
        raise InputError(f"{truth_json}: the ground truth JSON has no annotations")
    used = {entry["image_id"] for entry in annotations}
    predictions = read_predictions(predicted_json, warnings, used)
    faults: list[str] = []
    seen: set[ImageId] = set()
    for entry in annotations:
        image_id = entry["image_id"]
        if image_id in seen:
            warnings.add("ground truth: an image is listed twice and is counted twice", f"image {image_id}")
        seen.add(image_id)
        prediction = predictions.get(image_id)
        if prediction is None:
            faults.append(
                f"{predicted_json}: image {image_id}: no prediction{_same_text(image_id, predictions)}"
            )
            continue
        files.images.append(
            ImagePair(
                image_id,
                truth_dir / entry["file_name"],
                predicted_dir / prediction["file_name"],
                unique_segments(entry["segments_info"], image_id, "ground truth", warnings),
                unique_segments(prediction["segments_info"], image_id, "predictions", warnings),
            )
        )
    if faults and not files.images and predictions:
        first = annotations[0]["image_id"]
        advice = _same_text(first, predictions) or " (predictions of another split?)"
        raise InputError(
            f"{predicted_json}: none of its {len(predictions)} images is among the {len(used)} of "
            f"{truth_json}, such as image {first}{advice}"
        )
    if faults:
        raise InputError(faults)


def unique_segments(
    listed: list[dict[str, Any]], image_id: ImageId, side: str, warnings: InputWarnings
) -> list[dict[str, Any]]:
    """Each id once, as in `ImagePair`; `side` names the map in warnings."""
    segments: dict[int, dict[str, Any]] = {}
    for segment in listed:
        if segment["id"] in segments:
            where = f"image {image_id} segment {segment['id']}"
            warnings.add(f"{side}: two entries of one segment id, the last one is used", where)
        segments[segment["id"]] = segment
    return list(segments.values())


def _same_text(image_id: ImageId, predictions: dict[ImageId, Any]) -> str:
    """Advice if only the type of the id differs."""
    other: ImageId = str(image_id)
    if isinstance(image_id, str):
        other = int(image_id) if image_id.isdecimal() else image_id
    if other in predictions and other != image_id:
        return f" (there is one for {other!r}; ids must have the same type, here {type(image_id).__name__})"
    return ""
