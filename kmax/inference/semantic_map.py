"""Semantic segmentation from the same output: one class for each pixel, void never.

TensorFlow: the class of the likeliest cluster, decided at network size. PyTorch: clusters vote with their
class probabilities, weighted by their share of the pixel, decided at the size of the image.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kmax.config import Flavour
from kmax.data.geometry import resize_labels
from kmax.inference.enlarge import Size2, to_image, to_input
from kmax.inference.postprocess_flavour import CHOICES


def semantic(
    class_logits: Tensor,
    mask_logits: Tensor,
    *,
    input_size: Size2,
    content_size: Size2,
    original_size: Size2,
    flavour: Flavour,
) -> NDArray[np.int16]:
    """Contiguous class of each pixel, [H, W] at the size of the image; arguments as in `maskwise`."""
    if CHOICES[flavour].at_image_size:
        bands = semantic_scores(class_logits, mask_logits, input_size, content_size, original_size)
        return np.concatenate([band.argmax(1).short().cpu().numpy() for band in bands])
    mask_logits = mask_logits.float()
    classes = class_logits[:, :-1].argmax(1)
    enlargement = to_input((mask_logits.shape[1], mask_logits.shape[2]), input_size)
    winners = [classes[band.weights.argmax(1)] for band in enlargement.bands(mask_logits)]
    labels = torch.cat(winners).short().cpu().numpy()
    resized: NDArray[np.int16] = resize_labels(labels[: content_size[0], : content_size[1]], original_size)
    return resized


def semantic_scores(
    class_logits: Tensor,
    mask_logits: Tensor,
    input_size: Size2,
    content_size: Size2,
    original_size: Size2,
) -> Iterator[Tensor]:
    """Votes of the PyTorch original for each class, in bands of rows: float32 [R, K, W]."""
    mask_logits = mask_logits.float()
    class_probabilities = class_logits.float().softmax(1)[:, :-1]
    native = (mask_logits.shape[1], mask_logits.shape[2])
    for band in to_image(native, input_size, content_size, original_size).bands(mask_logits):
        yield (class_probabilities.T @ band.weights) / band.total[:, None]
