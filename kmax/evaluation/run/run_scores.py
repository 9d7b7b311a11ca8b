"""The evaluators of a run's predictions, as the table of metrics (`kmax.config.metrics`) names them.

Each takes the predictions and the ground truth and returns its scores by metric. Average precision and
mean IoU are scored against the dataset's own annotation, which is read in place from the raw files, or
against the panoptic annotation.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kmax import paths
from kmax.config import Data, Run
from kmax.data.dataset_file import OwnAnnotation, load_dataset, raw_root
from kmax.data.datasets import Prepared
from kmax.data.formats.coco_instance_json import read_detections, read_ground_truth
from kmax.data.formats.coco_panoptic import Image
from kmax.errors import InputError, InputWarnings
from kmax.evaluation import coco_ap
from kmax.evaluation.bootstrap import miou_interval, pq_intervals
from kmax.evaluation.cityscapes import cityscapes_ap, cityscapes_miou
from kmax.evaluation.cityscapes.cityscapes_format import frame_of
from kmax.evaluation.coco_ap import IouType
from kmax.evaluation.panoptic import deeplab2, pq
from kmax.evaluation.panoptic.ceiling import stride4_ceiling
from kmax.evaluation.panoptic.panoptic_files import PanopticFiles
from kmax.evaluation.panoptic.panoptic_truth import evaluate_labels, instance_truth
from kmax.evaluation.score_provenance import Provenance, files_digest
from kmax.evaluation.semantic import label_maps
from kmax.evaluation.semantic.miou import MiouResult, PixelCounts
from kmax.files import sha256

PROTOCOL = "mask-wise panoptic prediction at image size, single scale, no flip"
IOU_TYPES: dict[str, IouType] = {"ap": "segm", "ap_box": "bbox"}
OF_MASKS = "boxes and areas of detections are those of their masks"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predictions:
    """A run's predictions and the ground truth, after the pass over all panoptic maps.

    Attributes:
        images: of the split, or those that `data.val_images` lists.
        folder: of the predictions.
        files: panoptic annotation and predictions of the images; their digests are known.
        quality: panoptic quality by the rules of panopticapi.
        pixels: mean IoU of the panoptic maps.
        counts: counts of each image, by evaluators that have a `count` function.
    """

    run: Run
    prepared: Prepared
    images: Sequence[Image]
    folder: Path
    files: PanopticFiles
    quality: pq.PQResult
    pixels: MiouResult
    counts: Mapping[str, Sequence[Any]]

    @property
    def split(self) -> str:
        """Name of the split."""
        return self.run.data.val_split

    @property
    def bootstrap(self) -> dict[str, int]:
        """Arguments of the functions that compute intervals."""
        return {
            "samples": self.run.evaluate.bootstrap_samples,
            "seed": self.run.evaluate.bootstrap_seed,
        }


@dataclass(frozen=True)
class Score:
    """One metric of a run.

    Attributes:
        figures: its part of metrics.json, with `evaluator` and `version`.
        warnings: unusual input that was accepted, one line per kind.
        intervals: its part of `intervals` in metrics.json; None: it has none.
        pixels: counts of the run's images and categories, in their order, for per_class.csv and
            per_image.npz; None: the counts of the panoptic maps are written.
    """

    figures: dict[str, Any]
    warnings: Sequence[str] = ()
    intervals: Any = None
    pixels: MiouResult | None = None


Scores = dict[str, Score]


def panoptic_quality(predictions: Predictions) -> Scores:
    """Panoptic quality by the rules of panopticapi."""
    quality = predictions.quality
    intervals = pq_intervals(quality, **predictions.bootstrap)
    return {"pq": Score(quality.to_json(), quality.warnings, intervals)}


def deeplab2_quality(predictions: Predictions) -> Scores:
    """Panoptic quality by the rules of deeplab2."""
    quality, counts = predictions.quality, predictions.counts["pq_deeplab2"]
    result = replace(
        pq.collect(quality.categories, quality.image_ids, counts, quality.warnings),
        provenance=predictions.files.provenance(deeplab2.EVALUATOR, PROTOCOL, predictions.split),
    )
    return {"pq_deeplab2": Score(result.to_json(), result.warnings)}


def panoptic_map_iou(predictions: Predictions) -> Scores:
    """Mean IoU of the classes of predicted segments."""
    pixels = predictions.pixels
    intervals = {"miou": miou_interval(pixels, **predictions.bootstrap)}
    return {"miou_panoptic": Score(pixels.to_json(), pixels.warnings, intervals)}


def grid_ceiling(predictions: Predictions) -> Scores:
    """Panoptic quality of the ground truth on the grid of the network's output; logs the share reached."""
    height, width = predictions.run.data.image_size
    ceiling = stride4_ceiling(predictions.files, (height, width))
    reached, allowed = (result.group("all")["pq"] or 0.0 for result in (predictions.quality, ceiling))
    share = f" ({reached / allowed:.0%})" if allowed else ""
    logger.warning(
        "%s: upper bound of PQ on the stride-4 grid: %.1f; achieved: %.1f%s",
        predictions.run.run,
        100 * allowed,
        100 * reached,
        share,
    )
    return {"ceiling": Score(ceiling.to_json())}


def coco_precision(predictions: Predictions) -> Scores:
    """AP of masks and boxes by COCO's rules, against the dataset's own instance JSON.

    Raises:
        InputError: predictions or the annotation are missing or invalid, or the annotation lacks images.
    """
    warnings = InputWarnings()
    path = _own_annotation(predictions.run.data, "instance_json")
    truth = read_ground_truth(path, warnings)
    wanted = {image.id for image in predictions.images}
    lacking = wanted - {entry["id"] for entry in truth["images"]}
    if lacking:
        first = next(image for image in predictions.images if image.id in lacking)
        raise InputError(
            f"{path}: does not contain {len(lacking)} of the {len(predictions.images)} images, such as "
            f"{first.id} ({first.file_name}); is it the annotation of another split?"
        )
    truth |= {
        "images": [entry for entry in truth["images"] if entry["id"] in wanted],
        "annotations": [entry for entry in truth["annotations"] if entry["image_id"] in wanted],
    }
    return _precision(predictions, truth, sha256(path), "the dataset's instance annotation", warnings)


def things_precision(predictions: Predictions) -> Scores:
    """AP of masks and boxes by COCO's rules, against the things of the panoptic annotation.

    Raises:
        InputError: predictions or PNGs of the annotation are missing or invalid.
    """
    files = predictions.files
    pngs = [(pair.truth_path.name, one) for pair, (one, _) in zip(files.images, files.sha256, strict=True)]
    digest = files_digest(files.truth_json, pngs)
    against = "things of the panoptic annotation"
    return _precision(predictions, instance_truth(files), digest, against, InputWarnings())


def _precision(
    predictions: Predictions, truth: dict[str, Any], truth_digest: str, against: str, warnings: InputWarnings
) -> Scores:
    """AP of the instances, for each of IOU_TYPES.

    Args:
        against: what `truth` is, for the protocol.
        warnings: of `truth`; those of the detections are added.
    """
    path = predictions.folder / "instances.json"
    detections = read_detections(path, truth, "segm", warnings)
    digest = sha256(path)
    scores = {}
    for name, iou_type in IOU_TYPES.items():
        provenance = Provenance(
            coco_ap.EVALUATOR,
            coco_ap.VERSION,
            f"{coco_ap.protocol(iou_type, coco_ap.MAX_DETECTIONS)}; against {against}; {OF_MASKS}",
            predictions.split,
            len(predictions.images),
            truth_digest,
            digest,
        )
        result = coco_ap.evaluate(
            truth, detections, iou_type, warnings=warnings.lines(), provenance=provenance
        )
        scores[name] = Score(result.to_json(), result.warnings)
    return scores


def cityscapes_precision(predictions: Predictions) -> Scores:
    """AP of masks by the rules of Cityscapes.

    Raises:
        InputError: predictions or label PNGs are missing or invalid.
    """
    truth_dir = _own_annotation(predictions.run.data, "label_dir")
    result = cityscapes_ap.evaluate_files(
        truth_dir, predictions.folder / "instances", workers=None, split=predictions.split
    )
    return {"ap": Score(result.to_json(), result.warnings)}


def cityscapes_iou(predictions: Predictions) -> Scores:
    """Mean IoU of label PNGs by the rules of Cityscapes; errors as `cityscapes_precision`."""
    truth_dir = _own_annotation(predictions.run.data, "label_dir")
    result = cityscapes_miou.evaluate_files(
        truth_dir, predictions.folder / "semantic", workers=None, split=predictions.split
    )
    names = {image.id: frame_of(Path(image.file_name).stem) for image in predictions.images}
    return _iou(predictions, result.to_json(), _in_order(result.pixels, names, predictions.files, truth_dir))


def ade20k_iou(predictions: Predictions) -> Scores:
    """Mean IoU of label PNGs by the rules of ADE20K; errors as `cityscapes_precision`."""
    truth_dir = _own_annotation(predictions.run.data, "label_dir")
    result = label_maps.evaluate_ade20k(
        truth_dir, predictions.folder / "semantic", workers=None, split=predictions.split
    )
    names = {image.id: Path(image.file_name).stem for image in predictions.images}
    return _iou(predictions, result.to_json(), _in_order(result, names, predictions.files, truth_dir))


def panoptic_annotation_iou(predictions: Predictions) -> Scores:
    """Mean IoU of label PNGs against the classes of the panoptic annotation.

    Raises:
        InputError: label PNGs or PNGs of the annotation are missing or invalid.
    """
    result = evaluate_labels(
        predictions.files, predictions.images, predictions.folder / "semantic", predictions.split
    )
    return _iou(predictions, result.to_json(), result)


def _iou(predictions: Predictions, figures: dict[str, Any], pixels: MiouResult) -> Scores:
    interval = miou_interval(pixels, **predictions.bootstrap)
    return {"miou": Score(figures, pixels.warnings, interval, pixels)}


def _own_annotation(data: Data, kind: str) -> Path:
    """The dataset's own annotation of the val split.

    Args:
        kind: `label_dir`, a folder of label PNGs, or `instance_json`.

    Raises:
        InputError: the dataset file names none, or it does not exist.
    """
    dataset = load_dataset(data.dataset)
    file = paths.dataset_file(data.dataset)
    name = getattr(dataset.own_annotation.get(data.val_split, OwnAnnotation()), kind)
    if name is None:
        raise InputError(
            f"{file}: own_annotation.{data.val_split}.{kind}: missing; the evaluation requires it"
        )
    path: Path = raw_root(dataset) / name
    if not path.exists():
        raise InputError(
            f"{path}: not found ({data.dataset}/{data.val_split} is scored against it: own_annotation in "
            f"{file})"
        )
    return path


def _in_order(
    pixels: MiouResult, names: dict[int | str, str], files: PanopticFiles, truth_dir: Path
) -> MiouResult:
    """Counts of label maps, rearranged to the run's images and categories.

    Args:
        names: of the label maps, by image id.

    Raises:
        InputError: the label maps are of other images or categories.
    """
    rows = {name: row for row, name in enumerate(pixels.image_ids)}
    columns = {category.id: column for column, category in enumerate(pixels.categories)}
    image_ids = [pair.image_id for pair in files.images]
    wanted = [names[image_id] for image_id in image_ids]
    if set(wanted) != rows.keys():
        other = sorted(set(wanted) ^ set(map(str, rows)))
        raise InputError(
            f"{truth_dir}: has {len(rows)} images, but the split has {len(wanted)}: "
            f"{other[0]} is only in one of them"
        )
    if {category.id for category in files.categories} != columns.keys():
        raise InputError(
            f"{files.truth_json}: its categories differ from those of the label maps in {truth_dir}"
        )
    order = [rows[name] for name in wanted]
    classes = [columns[category.id] for category in files.categories]
    counts = pixels.per_image
    chosen = (values[order][:, classes] for values in (counts.intersection, counts.truth, counts.predicted))
    per_image = PixelCounts(*chosen)
    return MiouResult(files.categories, image_ids, per_image, pixels.warnings, pixels.provenance)
