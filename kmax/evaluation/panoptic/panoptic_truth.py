"""Ground truth of instances and of semantic classes, derived from a panoptic annotation.

For datasets without annotations of these tasks: things are the instances, and a pixel has the class of its
segment. Panoptic segments do not overlap, so scores differ from those of annotations that may overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.data.formats.coco_json import JsonObject
from kmax.data.formats.coco_panoptic import CategoryFacts, Image
from kmax.data.formats.png import decode_ids, open_png
from kmax.errors import InputWarnings
from kmax.evaluation.panoptic.panoptic_files import ImagePair, PanopticFiles
from kmax.evaluation.score_provenance import Provenance, files_digest
from kmax.evaluation.semantic.label_maps import (
    Digests,
    LabelFiles,
    count_labels,
    known_labels,
    read_labels,
)
from kmax.evaluation.semantic.miou import MiouResult, PixelCounts, collect
from kmax.evaluation.workers import each_image
from kmax.evaluator_version import VERSION

LABELS_EVALUATOR = "kmax mean IoU of label maps"
LABELS_PROTOCOL = "semantic predictions, classes of the panoptic annotation's segments, void left out"


def instance_truth(files: PanopticFiles, workers: int | None = None) -> dict[str, Any]:
    """Instance ground truth of the images in `files`, in COCO's format: their things, including crowds.

    Raises:
        InputError: missing or corrupt PNGs, one line each.
    """
    things = {category.id for category in files.categories if category.isthing}
    results = each_image(partial(_things_of, things=things), files.images, workers)
    annotations = [entry for _, entries in results for entry in entries]
    return {
        "images": [image for image, _ in results],
        "categories": [{"id": c.id, "name": c.name} for c in files.categories if c.isthing],
        "annotations": [entry | {"id": number} for number, entry in enumerate(annotations, start=1)],
    }


def _things_of(pair: ImagePair, _: InputWarnings, things: set[int]) -> tuple[JsonObject, list[JsonObject]]:
    from pycocotools import mask as coco_mask

    ids = decode_ids(open_png(pair.truth_path, f"image {pair.image_id}: panoptic PNG"))
    entries = []
    for segment in pair.truth_segments:
        mask = ids == segment["id"]
        if segment["category_id"] not in things or not mask.any():
            continue
        encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        entries.append(
            {
                "image_id": pair.image_id,
                "category_id": segment["category_id"],
                "iscrowd": int(segment["iscrowd"] == 1),
                "area": int(mask.sum()),
                "bbox": [float(side) for side in coco_mask.toBbox(encoded)],
                "segmentation": encoded,
            }
        )
    return {"id": pair.image_id, "height": ids.shape[0], "width": ids.shape[1]}, entries


@dataclass(frozen=True)
class _LabelledPair:
    """One image's panoptic annotation and predicted label PNG."""

    pair: ImagePair
    predicted: Path


def evaluate_labels(
    files: PanopticFiles, images: Sequence[Image], predicted_dir: Path, split: str, workers: int | None = None
) -> MiouResult:
    """Mean IoU of label PNGs of category ids against the classes of a panoptic annotation.

    Args:
        images: of `files`; their label PNGs are `<predicted_dir>/<file name>.png`.

    Raises:
        InputError: missing or corrupt PNGs, sizes that differ, unknown labels.
    """
    names = {image.id: Path(image.file_name).with_suffix(".png") for image in images}
    items = [_LabelledPair(pair, predicted_dir / names[pair.image_id]) for pair in files.images]
    results = each_image(partial(_count_labels, categories=files.categories), items, workers)
    image_ids = [pair.image_id for pair in files.images]
    result = collect(files.categories, image_ids, [counts for counts, _ in results], [])
    truth, predicted = (
        files_digest(index, (digests[side] for _, digests in results))
        for side, index in enumerate((files.truth_json, None))
    )
    provenance = Provenance(
        LABELS_EVALUATOR, VERSION, LABELS_PROTOCOL, split, len(image_ids), truth, predicted
    )
    return replace(result, provenance=provenance)


def _count_labels(
    item: _LabelledPair, _: InputWarnings, categories: Sequence[CategoryFacts]
) -> tuple[PixelCounts, Digests]:
    pair, name = item.pair, str(item.pair.image_id)
    png = open_png(pair.truth_path, f"image {name}: panoptic PNG")
    truth = decode_ids(png)
    predicted, predicted_digest = read_labels(item.predicted, name, "predicted label PNG")
    pairs = count_labels(truth, predicted, LabelFiles(name, pair.truth_path, item.predicted))
    index_of = {category.id: index for index, category in enumerate(categories)}
    known_labels(pairs.predicted, index_of, item.predicted, name)
    class_of = {segment["id"]: index_of.get(segment["category_id"], -1) for segment in pair.truth_segments}
    classes = np.array([class_of.get(number, -1) for number in pairs.truth.tolist()], np.int64)
    guesses = np.array([index_of[label] for label in pairs.predicted.tolist()], np.int64)
    labelled = classes >= 0
    right = classes == guesses

    def total(values: NDArray[np.int64], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.bincount(values[chosen], pairs.pixels[chosen], len(categories)).astype(np.float64)

    counts = PixelCounts(total(classes, right), total(classes, labelled), total(guesses, labelled))
    return counts, [(pair.truth_path.name, png.sha256), predicted_digest]
