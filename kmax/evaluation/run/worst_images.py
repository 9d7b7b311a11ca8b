"""Pictures of the images with the lowest quality: ground truth and prediction, beside the image."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from kmax.config import Category
from kmax.data.formats.coco_panoptic import Image, read_image, read_map
from kmax.evaluation.panoptic.explanation import Explanation
from kmax.evaluation.panoptic.panoptic_files import PanopticFiles
from kmax.files import atomic_path
from kmax.visualization.overlays import Rgb, overlay, show_image

WORST = 6
GREY = 128
JPEG_QUALITY = 85
logger = logging.getLogger(__name__)


def draw_worst(
    folder: Path,
    explanation: Explanation,
    files: PanopticFiles,
    images: Sequence[Image],
    images_dir: Path,
    categories: Sequence[Category],
) -> None:
    """Write <rank>_<name>/{image,ground_truth,prediction}.jpg of the worst images into `folder`.

    An image whose pixels are not on this machine is grey, which is told.

    Args:
        files: the maps of the explanation's images.
        images: of the split, with their files' names in `images_dir`.
        categories: with the colours to draw.

    Raises:
        InputError: a damaged image or map.
    """
    names = {image.id: image for image in images}
    class_of = {category.id: index for index, category in enumerate(categories)}
    absent = 0
    for rank, index in enumerate(explanation.worst()[:WORST], start=1):
        pair = files.images[index]
        image = names[pair.image_id]
        path = images_dir / image.file_name
        absent += not path.exists()
        pixels = (
            read_image(path) if path.exists() else np.full((image.height, image.width, 3), GREY, np.uint8)
        )
        place = folder / f"{rank}_{Path(image.file_name).stem}"
        _save(place / "image.jpg", show_image(pixels))
        known = [s for s in pair.truth_segments if not s["iscrowd"] and s["category_id"] in class_of]
        true = {s["id"]: class_of[s["category_id"]] for s in known}
        predicted = {s["id"]: class_of[s["category_id"]] for s in pair.predicted_segments}
        for name, map_path, classes in (
            ("ground_truth", pair.truth_path, true),
            ("prediction", pair.predicted_path, predicted),
        ):
            _save(place / f"{name}.jpg", overlay(pixels, read_map(map_path), classes, categories))
    if absent:
        logger.warning("%d of the worst images are not in %s and are drawn grey", absent, images_dir)


def _save(path: Path, picture: Rgb) -> None:
    with atomic_path(path) as temporary:
        Pillow.fromarray(picture).save(temporary, format="JPEG", quality=JPEG_QUALITY)
