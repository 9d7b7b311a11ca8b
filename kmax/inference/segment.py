"""One batch through the network and post-processing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from kmax.config import Category, Predict
from kmax.errors import InputError
from kmax.inference.enlarge import Size2
from kmax.inference.pixelwise import pixelwise
from kmax.inference.postprocess import maskwise
from kmax.inference.segments import PanopticMap
from kmax.model.kmax import KMaX
from kmax.model.output import Output


@torch.inference_mode()
def segment_images(
    model: KMaX,
    images: Tensor,
    content_sizes: list[Size2],
    original_sizes: list[Size2],
    isthing: Tensor,
    predict: Predict,
    names: Sequence[str | int],
) -> Iterator[tuple[PanopticMap, list[Tensor]]]:
    """Panoptic map and cluster assignments (int64 [h_i, w_i] per k-means layer) of each image of a batch.

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
) -> Iterator[tuple[PanopticMap, list[Tensor]]]:
    """What `segment_images` makes of the network's output."""
    for place, (content_size, original_size) in enumerate(zip(content_sizes, original_sizes, strict=True)):
        class_logits, mask_logits = output.class_logits[place], output.mask_logits[place]
        for what, logits in (("class logits", class_logits), ("mask logits", mask_logits)):
            if not torch.isfinite(logits).all():
                raise InputError(
                    f"image {names[place]}: the network's {what} are not finite: its weights are damaged or "
                    "diverged"
                )
        arguments: dict[str, Any] = {
            "input_size": (images.shape[2], images.shape[3]),
            "content_size": content_size,
            "original_size": original_size,
            "isthing": isthing,
            "predict": predict,
        }
        if predict.mode == "maskwise":
            flavour = model.arguments["flavour"]
            result = maskwise(class_logits, mask_logits, flavour=flavour, **arguments)
        else:
            result = pixelwise(class_logits, mask_logits, **arguments)
        yield result, [layer.assignment[place].cpu() for layer in output.auxiliary]


def segments_info(result: PanopticMap, categories: list[Category]) -> list[dict[str, Any]]:
    """The segments in COCO panoptic format, with the data set's category ids."""
    return [
        {"id": segment.id, "category_id": categories[segment.class_index].id, "score": segment.score}
        for segment in result.segments
    ]
