"""Average precision of a run's instance predictions, by the rules that its file asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kmax.config import Run
from kmax.data.formats.coco_instance_json import read_detections
from kmax.data.formats.coco_panoptic import Image
from kmax.errors import InputWarnings
from kmax.evaluation.cityscapes import cityscapes_ap
from kmax.evaluation.cityscapes.cityscapes_ap import CityscapesAP
from kmax.evaluation.coco import coco_ap
from kmax.evaluation.coco.coco_ap import CocoAP, IouType
from kmax.evaluation.panoptic.panoptic_files import PanopticFiles
from kmax.evaluation.panoptic.panoptic_truth import instance_truth
from kmax.evaluation.run.own_annotation import coco_ground_truth, instance_json, label_folder
from kmax.evaluation.score_provenance import Provenance, files_digest
from kmax.files import sha256

BY_IOU: dict[str, IouType] = {"ap": "segm", "ap_box": "bbox"}
OF_MASKS = "boxes and areas of detections are those of their masks"


def average_precision(
    run: Run, files: PanopticFiles, images: Sequence[Image], folder: Path
) -> dict[str, CocoAP | CityscapesAP]:
    """AP by name in metrics.json: `ap` of masks, and `ap_box` of boxes where the rules are COCO's.

    Args:
        files: panoptic annotation and predictions of the images, read before: its digests are known.
        folder: of the run's predictions.

    Raises:
        InputError: predictions or the annotation are missing or not such as the evaluator accepts.
    """
    split = run.data.val_split
    if run.evaluate.ap is None:
        return {}
    if run.evaluate.ap == "cityscapes":
        truth_dir, predicted_dir = label_folder(run.data), folder / "instances"
        return {"ap": cityscapes_ap.evaluate_files(truth_dir, predicted_dir, workers=None, split=split)}
    warnings = InputWarnings()
    if run.evaluate.ap == "coco":
        path = instance_json(run.data)
        truth = coco_ground_truth(path, images, warnings)
        truth_digest, against = sha256(path), "the dataset's instance annotation"
    else:
        truth = instance_truth(files)
        pngs = [
            (pair.truth_path.name, one) for pair, (one, _) in zip(files.images, files.sha256, strict=True)
        ]
        truth_digest, against = files_digest(files.truth_json, pngs), "things of the panoptic annotation"
    detections_json = folder / "instances.json"
    detections = read_detections(detections_json, truth, "segm", warnings)
    predicted_digest = sha256(detections_json)
    results: dict[str, CocoAP | CityscapesAP] = {}
    for name, iou_type in BY_IOU.items():
        protocol = f"{coco_ap.protocol(iou_type, coco_ap.MAX_DETECTIONS)}; against {against}; {OF_MASKS}"
        provenance = Provenance(
            coco_ap.EVALUATOR, coco_ap.VERSION, protocol, split, len(images), truth_digest, predicted_digest
        )
        # pycocotools writes into the detections.
        copies = [dict(entry) for entry in detections]
        results[name] = coco_ap.evaluate(
            truth, copies, iou_type, coco_ap.MAX_DETECTIONS, warnings.lines(), provenance
        )
    return results
