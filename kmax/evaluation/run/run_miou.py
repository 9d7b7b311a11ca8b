"""Mean IoU of a run's semantic predictions, by the rules that its file asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmax.config import Run
from kmax.data.formats.coco_panoptic import Image
from kmax.errors import InputError
from kmax.evaluation.cityscapes import cityscapes_miou
from kmax.evaluation.cityscapes.cityscapes_files import frame_of
from kmax.evaluation.panoptic.panoptic_files import PanopticFiles
from kmax.evaluation.panoptic.panoptic_truth import evaluate_labels
from kmax.evaluation.run.own_annotation import label_folder
from kmax.evaluation.semantic import label_maps
from kmax.evaluation.semantic.miou import MiouResult, PixelCounts


@dataclass(frozen=True)
class SemanticScores:
    """Mean IoU of semantic predictions.

    Attributes:
        figures: what metrics.json holds.
        pixels: counts of the run's images and categories, in their order.
    """

    figures: dict[str, Any]
    pixels: MiouResult


def semantic_iou(
    run: Run, files: PanopticFiles, images: Sequence[Image], folder: Path
) -> SemanticScores | None:
    """Mean IoU; None where the run file asks for none.

    Args:
        files: panoptic annotation and predictions of the images.
        folder: of the run's predictions.

    Raises:
        InputError: predictions or the annotation are missing or not such as the evaluator accepts, or of
            other images than the split.
    """
    split, predicted_dir = run.data.val_split, folder / "semantic"
    if run.evaluate.miou is None:
        return None
    if run.evaluate.miou == "panoptic_annotation":
        pixels = evaluate_labels(files, images, predicted_dir, split)
        return SemanticScores(pixels.to_json(), pixels)
    truth_dir = label_folder(run.data)
    if run.evaluate.miou == "ade20k":
        pixels = label_maps.evaluate_ade20k(truth_dir, predicted_dir, workers=None, split=split)
        names = {image.id: Path(image.file_name).stem for image in images}
        return SemanticScores(pixels.to_json(), _in_order(pixels, names, files, truth_dir))
    result = cityscapes_miou.evaluate_files(truth_dir, predicted_dir, workers=None, split=split)
    names = {image.id: frame_of(Path(image.file_name).stem) for image in images}
    return SemanticScores(result.to_json(), _in_order(result.pixels, names, files, truth_dir))


def _in_order(
    pixels: MiouResult, names: dict[int | str, str], files: PanopticFiles, truth_dir: Path
) -> MiouResult:
    """Counts by the names of label maps, as counts of the run's images and categories."""
    rows = {name: row for row, name in enumerate(pixels.image_ids)}
    columns = {category.id: column for column, category in enumerate(pixels.categories)}
    image_ids = [pair.image_id for pair in files.images]
    wanted = [names[image_id] for image_id in image_ids]
    if set(wanted) != rows.keys():
        other = sorted(set(wanted) ^ set(map(str, rows)))
        raise InputError(
            f"{truth_dir}: has {len(rows)} images, but the split has {len(wanted)}: {other[0]} is in one of "
            f"them only"
        )
    if {category.id for category in files.categories} != columns.keys():
        raise InputError(f"{files.truth_json}: its categories are not those of the label maps in {truth_dir}")
    order = [rows[name] for name in wanted]
    classes = [columns[category.id] for category in files.categories]
    counts = pixels.per_image
    chosen = (values[order][:, classes] for values in (counts.intersection, counts.truth, counts.predicted))
    per_image = PixelCounts(*chosen)
    return MiouResult(files.categories, image_ids, per_image, pixels.warnings, pixels.provenance)
