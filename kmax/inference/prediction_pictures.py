"""Pictures of predictions: image, ground truth, prediction, and the clusters of each k-means layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from kmax.config import Category
from kmax.data.formats.coco_panoptic import Annotation, read_image, read_map
from kmax.inference.panoptic_map import PanopticMap
from kmax.inference.upsampling import Size2
from kmax.visualization.overlays import cluster_map, overlay, save_picture, show_image


def draw_pictures(
    folder: Path,
    image_path: Path,
    result: PanopticMap,
    assignments: Sequence[Tensor],
    categories: Sequence[Category],
    *,
    input_size: Size2,
    content_size: Size2,
    truth: tuple[Path, Annotation] | None,
) -> None:
    """Write image.png, ground_truth.png, prediction.png, and clusters_1.png, ... per k-means layer.

    Args:
        folder: to write to.
        assignments: int64 [h_i, w_i] per layer.
        truth: PNG and segments of the ground truth; None: there is none, and no picture of it.
    """
    image = read_image(image_path)
    save_picture(folder / "image.png", show_image(image))
    if truth is not None:
        truth_map, annotation = truth
        class_of = {category.id: index for index, category in enumerate(categories)}
        truth_classes = {s.id: class_of[s.category_id] for s in annotation.segments if not s.iscrowd}
        truth_picture = overlay(image, read_map(truth_map), truth_classes, categories)
        save_picture(folder / "ground_truth.png", truth_picture)
    predicted_classes = {segment.id: segment.class_index for segment in result.segments}
    save_picture(folder / "prediction.png", overlay(image, result.ids, predicted_classes, categories))
    for layer, assignment in enumerate(assignments, start=1):
        picture = cluster_map(image, assignment.numpy(), input_size, content_size)
        save_picture(folder / f"clusters_{layer}.png", picture)
