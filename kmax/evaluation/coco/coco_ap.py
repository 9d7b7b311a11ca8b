"""Average precision of COCO for masks and boxes, computed by pycocotools, the official evaluator."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kmax.data.formats.coco_instance_json import read_detections, read_ground_truth
from kmax.errors import InputError, InputWarnings
from kmax.evaluation.score_provenance import Provenance
from kmax.files import sha256

EVALUATOR = "pycocotools"
VERSION = importlib.metadata.version("pycocotools")
IouType = Literal["segm", "bbox"]
MAX_DETECTIONS = 100
# Places in the arrays of pycocotools.
_AREAS = {"": 0, "_small": 1, "_medium": 2, "_large": 3}
_IOU_50, _IOU_75 = 0, 5


@dataclass(frozen=True)
class CocoAP:
    """What pycocotools accumulates; -1 where there is no ground truth.

    Attributes:
        precision: [10 overlaps, 101 recalls, categories, 4 areas, 3 numbers of detections].
        recall: the same without recalls.
        category_ids: ascending.
    """

    iou_type: IouType
    max_detections: int
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    category_ids: list[int]
    warnings: list[str]
    provenance: Provenance | None = None

    def to_json(self) -> dict[str, Any]:
        """COCO's twelve numbers and the average precision per category; None without ground truth."""
        precision, recall = self.precision, self.recall
        return {
            "evaluator": EVALUATOR,
            "version": VERSION,
            **({"provenance": self.provenance.to_json()} if self.provenance else {}),
            "iou_type": self.iou_type,
            "max_detections": self.max_detections,
            **{f"ap{name}": _mean(precision[..., area, -1]) for name, area in _AREAS.items()},
            "ap50": _mean(precision[_IOU_50, ..., 0, -1]),
            "ap75": _mean(precision[_IOU_75, ..., 0, -1]),
            "ar1": _mean(recall[..., 0, 0]),
            "ar10": _mean(recall[..., 0, 1]),
            **{f"ar{name}": _mean(recall[..., area, -1]) for name, area in _AREAS.items()},
            "per_category": {
                str(category): {
                    "ap": _mean(precision[:, :, index, 0, -1]),
                    "ap50": _mean(precision[_IOU_50, :, index, 0, -1]),
                }
                for index, category in enumerate(self.category_ids)
            },
        }


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[values > -1]
    return float(known.mean()) if known.size else None


def evaluate_files(
    truth_json: Path,
    detections_json: Path,
    iou_type: IouType = "segm",
    max_detections: int = MAX_DETECTIONS,
    strict: bool = False,
    split: str | None = None,
) -> CocoAP:
    """Average precision of detections in COCO's format for results.

    Args:
        max_detections: per image and category, the most confident; 100 for COCO.
        strict: reject unusual input that the official evaluator silently accepts, instead of warning.
        split: its name for the provenance; None: the name of the ground truth JSON.

    Raises:
        InputError: every entry of either file that is not what it should be.
    """
    if max_detections <= 10:
        raise InputError(f"max detections {max_detections}: must exceed 10")
    warnings = InputWarnings()
    truth = read_ground_truth(truth_json, warnings)
    detections = read_detections(detections_json, truth, iou_type, warnings)
    if strict and warnings.faults():
        raise InputError(warnings.faults())
    provenance = Provenance(
        EVALUATOR,
        VERSION,
        protocol(iou_type, max_detections),
        split or Path(truth_json).stem,
        len({image["id"] for image in truth["images"]}),
        sha256(truth_json),
        sha256(detections_json),
    )
    return evaluate(truth, detections, iou_type, max_detections, warnings.lines(), provenance)


def protocol(iou_type: IouType, max_detections: int) -> str:
    """What is compared, in words."""
    return f"{iou_type}, IoU 0.50 to 0.95, at most {max_detections} detections per image and category"


def evaluate(
    truth: dict[str, Any],
    detections: list[dict[str, Any]],
    iou_type: IouType = "segm",
    max_detections: int = MAX_DETECTIONS,
    warnings: list[str] | None = None,
    provenance: Provenance | None = None,
) -> CocoAP:
    """Average precision of detections in memory; both as in COCO's JSON, and sound.

    Args:
        truth: images, categories, annotations.
        detections: with image_id, category_id, score, and segmentation or bbox; pycocotools writes into them.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        ours = COCO()
        ours.dataset = truth
        ours.createIndex()
        if detections:
            theirs = ours.loadRes(detections)
        else:
            theirs = COCO()
            theirs.dataset = {**truth, "annotations": []}
            theirs.createIndex()
        evaluation = COCOeval(ours, theirs, iou_type)
        evaluation.params.maxDets = [1, 10, max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
    return CocoAP(
        iou_type,
        max_detections,
        evaluation.eval["precision"],
        evaluation.eval["recall"],
        [int(category) for category in evaluation.params.catIds],
        warnings or [],
        provenance,
    )
