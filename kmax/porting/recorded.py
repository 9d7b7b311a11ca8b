"""Recorded outputs of an original: an `.npz` of arrays, and a `.json` of facts beside it.

There are two layouts, as in the recorded runs of the parity tests:

* of TensorFlow: `image_uint8` [H, W, 3] and arrays `pred__*` in its layout, flattened in the order (image,
  row, column, channel) and subsampled to every `stride`-th value. `arrays` in the JSON states the strides.
* of PyTorch: `image0`, `image1`, ... [3, h, w], padded to `image_size` (height, width; in the JSON), and
  arrays `out/*`, subsampled along the clusters or channels (`THINNED`).
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kmax.config import Category, Flavour
from kmax.errors import InputError
from kmax.file_kinds import instead_of, missing
from kmax.model.output import Output

DAMAGE: tuple[type[Exception], ...] = (
    OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
# Arrays of a recording of PyTorch, from ours.
THINNED: dict[str, Callable[[Output], Tensor]] = {
    "out/pred_logits": lambda output: output.class_logits,
    "out/pred_masks_img0": lambda output: output.mask_logits[0, ::2],
    "out/pred_masks_img1": lambda output: output.mask_logits[1, ::8],
    "out/pixel_feature": lambda output: output.pixel_features[:, ::8],
}


@dataclass(frozen=True)
class Recording:
    """A recorded run.

    Attributes:
        path: of the NPZ.
        flavour: of the original that was recorded.
        images: float32 [B, 3, H, W], input of the network.
        arrays: by name, as recorded.
        strides: of those that are flattened and subsampled.
    """

    path: Path
    flavour: Flavour
    images: Tensor
    arrays: dict[str, NDArray[Any]]
    strides: dict[str, int]

    def ours(self, output: Output, categories: Sequence[Category]) -> dict[str, NDArray[Any]]:
        """Arrays of a network's output that can be compared with recorded ones of the same names.

        Args:
            output: of the network, for `images`.
            categories: in the order of its classes.
        """
        if self.flavour == "torch":
            found = {name: cut(output) for name, cut in THINNED.items() if name in self.arrays}
            return {name: tensor.numpy() for name, tensor in found.items()}
        # TensorFlow's order of classes: things first, void last.
        order = sorted(range(len(categories)), key=lambda place: not categories[place].isthing)
        whole = {
            "pred/pixel_space_mask_logits": output.mask_logits.permute(0, 2, 3, 1),
            "pred/pixel_space_normalized_feature": output.pixel_features.permute(0, 2, 3, 1),
            "pred/transformer_class_logits": output.class_logits[..., [*order, len(order)]],
        }
        return {
            name: tensor.numpy().ravel()[:: self.strides[name]]
            for name, tensor in whole.items()
            if name in self.arrays and name in self.strides
        }


def read_recording(path: Path) -> Recording:
    """Read a recording.

    Raises:
        InputError: not found, corrupt, or of neither layout.
    """
    if not path.is_file():
        raise InputError(missing(path, "recorded outputs"))
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: not an NPZ file: {instead_of(path) or 'of an unknown kind'}")
    try:
        with np.load(path, allow_pickle=False) as npz:
            arrays = {name.replace("__", "/"): npz[name] for name in npz.files}
        facts = json.loads(path.with_suffix(".json").read_bytes())
        make = _of_tensorflow if "image_uint8" in arrays else _of_torch
        return make(path, arrays, facts)
    except DAMAGE as error:
        words = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise InputError(
            f"{path}: recorded outputs (an NPZ file and the JSON file beside it) cannot be read: {words}"
        ) from error


def _of_tensorflow(path: Path, arrays: dict[str, NDArray[Any]], facts: Any) -> Recording:
    image = arrays.pop("image_uint8")
    strides = {name: int(about["stride"]) for name, about in facts["arrays"].items()}
    if any(stride < 1 for stride in strides.values()):
        raise ValueError("a stride is below 1")
    images = _normalised([image], (image.shape[0], image.shape[1]))
    return Recording(path, "tf", images, arrays, strides)


def _of_torch(path: Path, arrays: dict[str, NDArray[Any]], facts: Any) -> Recording:
    height, width = facts["image_size"]
    images = [arrays["image0"].transpose(1, 2, 0)]
    while f"image{len(images)}" in arrays:
        images.append(arrays[f"image{len(images)}"].transpose(1, 2, 0))
    return Recording(path, "torch", _normalised(images, (int(height), int(width))), arrays, {})


def _normalised(images: Sequence[NDArray[Any]], size: tuple[int, int]) -> Tensor:
    """Images uint8 [h, w, 3] as input of the network, padded with 0 at the bottom and right."""
    padded = torch.zeros(len(images), 3, *size)
    for image, place in zip(images, padded, strict=True):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"expected uint8 images [height, width, 3], found {image.dtype} {list(image.shape)}"
            )
        if image.shape[0] > size[0] or image.shape[1] > size[1]:
            raise ValueError(
                f"an image of {image.shape[0]}x{image.shape[1]} exceeds the input size {size[0]}x{size[1]}"
            )
        place[:, : image.shape[0], : image.shape[1]] = torch.from_numpy(image).permute(2, 0, 1) / 127.5 - 1
    return padded
