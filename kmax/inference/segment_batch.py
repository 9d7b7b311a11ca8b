"""One batch through the network and post-processing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kmax.config import Category, Flavour, Predict
from kmax.errors import InputError
from kmax.inference.panoptic_map import PanopticMap
from kmax.inference.panoptic_postprocess import maskwise, pixelwise
from kmax.inference.postprocess_flavour import POSTPROCESS_FLAVOURS
from kmax.inference.scored_instances import Instance, instances_of_clusters, instances_of_map
from kmax.inference.semantic_map import semantic_map
from kmax.inference.upsampling import ImageSizes, Size2
from kmax.model.kmax import KMaX
from kmax.model.output import Output


@dataclass(frozen=True)
class ImagePrediction:
    """The predictions for one image.

    Attributes:
        panoptic: the map, at the size of the image.
        assignments: cluster of each pixel, int64 [h_i, w_i] per k-means layer.
        instances: with scores; empty unless `predict.instances` is set.
        semantic: contiguous class of each pixel [H, W]; None unless `predict.semantic` is set.
    """

    panoptic: PanopticMap
    assignments: list[Tensor]
    instances: list[Instance]
    semantic: NDArray[np.int16] | None


@torch.inference_mode()
def segment_images(
    model: KMaX,
    images: Tensor,
    content_sizes: list[Size2],
    original_sizes: list[Size2],
    isthing: Tensor,
    predict: Predict,
    names: Sequence[str | int],
) -> Iterator[ImagePrediction]:
    """Panoptic map and cluster assignments of each image of a batch, and other outputs on request.

    Args:
        images: [B, 3, H, W] on the model's device.
        names: of the B images, for errors.

    Raises:
        InputError: logits are not finite; names them and the image.
    """
    output = model(images)
    yield from post_process(model, output, images, content_sizes, original_sizes, isthing, predict, names)


@torch.inference_mode()
def post_process(
    model: KMaX,
    output: Output,
    images: Tensor,
    content_sizes: list[Size2],
    original_sizes: list[Size2],
    isthing: Tensor,
    predict: Predict,
    names: Sequence[str | int],
) -> Iterator[ImagePrediction]:
    """The predictions of `segment_images`, from the network's output."""
    input_size = (images.shape[2], images.shape[3])
    for place, (content_size, original_size) in enumerate(zip(content_sizes, original_sizes, strict=True)):
        logits = output.class_logits[place], output.mask_logits[place]
        require_finite(*logits, names[place])
        sizes = ImageSizes(input_size, content_size, original_size)
        flavour = model.arguments.flavour
        if predict.mode == "maskwise":
            panoptic = maskwise(*logits, sizes, isthing, predict, flavour)
        else:
            panoptic = pixelwise(*logits, sizes, isthing, predict)
        yield ImagePrediction(
            panoptic=panoptic,
            assignments=[layer.assignment[place].cpu() for layer in output.auxiliary],
            instances=_instances(*logits, sizes, isthing, predict, flavour, panoptic),
            semantic=semantic_map(*logits, sizes, flavour) if predict.semantic else None,
        )


def require_finite(class_logits: Tensor, mask_logits: Tensor, name: str | int) -> None:
    """Raise InputError, which names the image, unless the network's output for it is finite."""
    for what, values in (("class logits", class_logits), ("mask logits", mask_logits)):
        if not torch.isfinite(values).all():
            raise InputError(
                f"image {name}: the network's {what} are not finite: its weights are corrupt or diverged"
            )


def _instances(
    class_logits: Tensor,
    mask_logits: Tensor,
    sizes: ImageSizes,
    isthing: Tensor,
    predict: Predict,
    flavour: Flavour,
    panoptic: PanopticMap,
) -> list[Instance]:
    """Instances of the flavour's original, if `predict` asks for any."""
    if predict.instances is None:
        return []
    if POSTPROCESS_FLAVOURS[flavour].instances_of_map:
        return instances_of_map(panoptic, isthing)
    return instances_of_clusters(class_logits, mask_logits, sizes, isthing, predict)


def segments_info(result: PanopticMap, categories: list[Category]) -> list[dict[str, Any]]:
    """The segments in COCO panoptic format, with the dataset's category ids."""
    return [
        {"id": segment.id, "category_id": categories[segment.class_index].id, "score": segment.score}
        for segment in result.segments
    ]
