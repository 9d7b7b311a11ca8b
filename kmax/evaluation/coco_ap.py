"""Average precision of COCO for masks and boxes, by the rules of pycocotools, the official evaluator.

hotcoco computes it: its precision and recall equal those of pycocotools bit for bit, in a tenth of the time.
pycocotools is used where hotcoco is not installed, and where hotcoco deviates (`_default_engine`).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
from dataclasses import dataclass, replace
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
Engine = Literal["hotcoco", "pycocotools"]
IouType = Literal["segm", "bbox"]
MAX_DETECTIONS = 100
# Indices into the arrays of pycocotools.
_AREAS = {"": 0, "_small": 1, "_medium": 2, "_large": 3}
_IOU_50, _IOU_75 = 0, 5
# Keys of annotations and of detections that hotcoco reads.
_TRUTH_KEYS = ("iscrowd", "area", "bbox", "segmentation")
_DETECTION_KEYS = ("score", "bbox", "segmentation")


@dataclass(frozen=True)
class CocoAP:
    """Precision and recall of a split; -1 where there is no ground truth.

    Attributes:
        precision: [10 overlaps, 101 recalls, categories, 4 areas, 3 numbers of detections].
        recall: [10 overlaps, categories, 4 areas, 3 numbers of detections].
        category_ids: ascending.
        warnings: unusual input that was accepted, one line per kind.
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
    engine: Engine | None = None,
) -> CocoAP:
    """Average precision of detections in COCO's format for results.

    Args:
        max_detections: per image and category, the most confident; 100 for COCO.
        strict: reject unusual input that the official evaluator silently accepts, instead of warning.
        split: its name for the provenance; None: the name of the ground truth JSON.
        engine: the program that computes it; None: hotcoco where possible.

    Raises:
        InputError: every invalid entry of either file.
    """
    if max_detections <= 10:
        raise InputError(f"max detections {max_detections}: must exceed 10")
    warnings = InputWarnings()
    truth = read_ground_truth(truth_json, warnings, masks=iou_type == "segm", boxes=iou_type == "bbox")
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
    return evaluate(truth, detections, iou_type, max_detections, warnings.lines(), provenance, engine)


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
    engine: Engine | None = None,
) -> CocoAP:
    """Average precision of detections in memory; both as in COCO's JSON, and valid.

    Args:
        truth: images, categories, annotations.
        detections: with image_id, category_id, score, and segmentation or bbox.
        provenance: the engine is added to it.
        engine: as for `evaluate_files`.
    """
    engine = engine or _default_engine(truth)
    compute = {"hotcoco": _by_hotcoco, "pycocotools": _by_pycocotools}[engine]
    precision, recall = compute(truth, detections, iou_type, [1, 10, max_detections])
    if provenance is not None:
        provenance = replace(provenance, engine=f"{engine} {importlib.metadata.version(engine)}")
    categories = sorted({int(category["id"]) for category in truth["categories"]})
    return CocoAP(iou_type, max_detections, precision, recall, categories, warnings or [], provenance)


Arrays = tuple[NDArray[np.float64], NDArray[np.float64]]


def _default_engine(truth: dict[str, Any]) -> Engine:
    """hotcoco if it is installed and exact: pycocotools never finds an annotation with id 0, hotcoco does."""
    exact = all(annotation["id"] != 0 for annotation in truth["annotations"])
    return "hotcoco" if exact and importlib.util.find_spec("hotcoco") is not None else "pycocotools"


def _by_hotcoco(
    truth: dict[str, Any], detections: list[dict[str, Any]], iou_type: IouType, max_detections: list[int]
) -> Arrays:
    """Precision and recall as pycocotools accumulates them."""
    from hotcoco import COCO, COCOeval

    # Ids may be strings or negative, which hotcoco rejects; only their order matters.
    images, categories = (_numbered(truth[key]) for key in ("images", "categories"))
    sizes = {images[image["id"]]: (image["height"], image["width"]) for image in truth["images"]}
    content = {
        "images": [{"id": key, "height": height, "width": width} for key, (height, width) in sizes.items()],
        "categories": [{"id": key, "name": str(key)} for key in categories.values()],
    }
    annotations, found = (
        [
            {
                "id": number,
                "image_id": images[entry["image_id"]],
                "category_id": categories[entry["category_id"]],
                **{key: entry[key] for key in keys if key in entry},
            }
            for number, entry in enumerate(entries, start=1)
        ]
        for entries, keys in ((truth["annotations"], _TRUTH_KEYS), (detections, _DETECTION_KEYS))
    )
    ours = COCO(content | {"annotations": annotations})
    theirs = ours.load_res(found) if found else COCO(content | {"annotations": []})
    evaluation = COCOeval(ours, theirs, iou_type)
    parameters = evaluation.params
    parameters.max_dets = max_detections
    evaluation.params = parameters
    evaluation.evaluate()
    evaluation.accumulate()
    arrays = evaluation.eval
    assert arrays is not None
    return arrays["precision"], arrays["recall"]


def _numbered(entries: list[dict[str, Any]]) -> dict[Any, int]:
    """A number from 1 for each id, in their order."""
    return {key: place for place, key in enumerate(sorted({entry["id"] for entry in entries}), start=1)}


def _by_pycocotools(
    truth: dict[str, Any], detections: list[dict[str, Any]], iou_type: IouType, max_detections: list[int]
) -> Arrays:
    """Precision and recall as pycocotools accumulates them."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        # It writes into ground truth and detections.
        ours, theirs = COCO(), COCO()
        ours.dataset = truth | {"annotations": [dict(entry) for entry in truth["annotations"]]}
        ours.createIndex()
        if detections:
            theirs = ours.loadRes([dict(entry) for entry in detections])
        else:
            theirs.dataset = truth | {"annotations": []}
            theirs.createIndex()
        evaluation = COCOeval(ours, theirs, iou_type)
        evaluation.params.maxDets = max_detections
        evaluation.evaluate()
        evaluation.accumulate()
    arrays = evaluation.eval
    return arrays["precision"], arrays["recall"]
