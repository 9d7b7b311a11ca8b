"""One batch through the network and post-processing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kmax.config import Category, Predict
from kmax.errors import InputError
from kmax.inference.enlarge import Size2
from kmax.inference.maskwise import maskwise
from kmax.inference.panoptic_map import PanopticMap
from kmax.inference.pixelwise import pixelwise
from kmax.inference.postprocess_flavour import CHOICES
from kmax.inference.scored_instances import Instance, instances, instances_of
from kmax.inference.semantic_map import semantic
from kmax.model.kmax import KMaX
from kmax.model.output import Output


@dataclass(frozen=True)
class Segmented:
    """What the network says of one image.

    Attributes:
        panoptic: the map, at the size of the image.
        assignments: cluster of each pixel, int64 [h_i, w_i] per k-means layer.
        instances: with scores; empty where `predict.instances` asks for none.
        semantic: contiguous class of each pixel [H, W]; None where `predict.semantic` does not ask for it.
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
) -> Iterator[Segmented]:
    """Panoptic map and cluster assignments of each image of a batch, and what else `predict` asks for.

    Args:
        images: [B, 3, H, W] on the model's device.
        names: of the B images, for errors.

    Raises:
        InputError: the network returns numbers that are not finite; names what they are, and the image.
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
) -> Iterator[Segmented]:
    """What `segment_images` makes of the network's output."""
    for place, (content_size, original_size) in enumerate(zip(content_sizes, original_sizes, strict=True)):
        class_logits, mask_logits = output.class_logits[place], output.mask_logits[place]
        for what, logits in (("class logits", class_logits), ("mask logits", mask_logits)):
            if not torch.isfinite(logits).all():
                raise InputError(
                    f"image {names[place]}: the network's {what} are not finite: its weights are damaged or "
                    "diverged"
                )
        sizes: dict[str, Any] = {
            "input_size": (images.shape[2], images.shape[3]),
            "content_size": content_size,
            "original_size": original_size,
        }
        arguments = {**sizes, "isthing": isthing, "predict": predict}
        flavour = model.arguments.flavour
        if predict.mode == "maskwise":
            result = maskwise(class_logits, mask_logits, flavour=flavour, **arguments)
        else:
            result = pixelwise(class_logits, mask_logits, **arguments)
        found: list[Instance] = []
        if predict.instances is not None:
            of_map = CHOICES[flavour].instances_of_map
            found = (
                instances_of(result, isthing) if of_map else instances(class_logits, mask_logits, **arguments)
            )
        labels = semantic(class_logits, mask_logits, flavour=flavour, **sizes) if predict.semantic else None
        yield Segmented(result, [layer.assignment[place].cpu() for layer in output.auxiliary], found, labels)


def segments_info(result: PanopticMap, categories: list[Category]) -> list[dict[str, Any]]:
    """The segments in COCO panoptic format, with the data set's category ids."""
    return [
        {"id": segment.id, "category_id": categories[segment.class_index].id, "score": segment.score}
        for segment in result.segments
    ]
