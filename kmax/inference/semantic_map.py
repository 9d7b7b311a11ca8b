"""Semantic segmentation from the same output: one class for each pixel, never void.

TensorFlow: the class of the most likely cluster, decided at the size of the network input. PyTorch: clusters
vote with their class probabilities, weighted by their share of the pixel, decided at the size of the image.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kmax.config import Flavour
from kmax.data.geometry import resize_labels
from kmax.inference.postprocess_flavour import POSTPROCESS_FLAVOURS
from kmax.inference.upsampling import ImageSizes, to_image, to_input


def semantic_map(
    class_logits: Tensor,
    mask_logits: Tensor,
    sizes: ImageSizes,
    flavour: Flavour,
) -> NDArray[np.int16]:
    """Contiguous class of each pixel, [H, W] at the size of the image; arguments as in `maskwise`."""
    if POSTPROCESS_FLAVOURS[flavour].at_image_size:
        bands = semantic_scores(class_logits, mask_logits, sizes)
        return np.concatenate([band.argmax(1).short().cpu().numpy() for band in bands])
    mask_logits = mask_logits.float()
    classes = class_logits[:, :-1].argmax(1)
    upsampling = to_input((mask_logits.shape[1], mask_logits.shape[2]), sizes.input)
    winners = [classes[band.weights.argmax(1)] for band in upsampling.bands(mask_logits)]
    labels = torch.cat(winners).short().cpu().numpy()
    resized: NDArray[np.int16] = resize_labels(labels[: sizes.content[0], : sizes.content[1]], sizes.original)
    return resized


def semantic_scores(
    class_logits: Tensor,
    mask_logits: Tensor,
    sizes: ImageSizes,
) -> Iterator[Tensor]:
    """Votes of the PyTorch original for each class, in bands of rows: float32 [R, K, W]."""
    mask_logits = mask_logits.float()
    class_probabilities = class_logits.float().softmax(1)[:, :-1]
    native = (mask_logits.shape[1], mask_logits.shape[2])
    for band in to_image(native, sizes).bands(mask_logits):
        yield (class_probabilities.T @ band.weights) / band.total[:, None]
