"""What the recorded forward passes of both originals share: models, all that happens in them, deviations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from weight_rule import tf_weights, torch_weights

import kmax
from kmax.model.kmax import KMaX
from kmax.model.output import Output
from kmax.porting import convert_tf, convert_torch_reference
from kmax.porting.tensorflow_names import tensorflow_entries
from kmax.porting.torch_names import torch_reference_entries

CARRIED = Path(__file__).resolve().parents[1] / "golden" / "forward"

Size = tuple[int, int]


@dataclass(frozen=True)
class Deviation:
    """Deviation of an array from the recorded one.

    Attributes:
        group: of arrays, such as "pixel decoder".
        name: of the array in the record.
        rms: of the difference, over the rms of the record.
        largest: absolute difference; for TensorFlow over the standard deviation of the whole array.
        bound_rms, bound_largest: what is allowed.
        flips: for maps of labels: differing pixels, where the others hold 0.
        bound_flips: how many are allowed.
    """

    group: str
    name: str
    rms: float = 0.0
    largest: float = 0.0
    bound_rms: float = np.inf
    bound_largest: float = np.inf
    flips: int = 0
    bound_flips: int = 0

    @property
    def within(self) -> bool:
        return (
            self.rms <= self.bound_rms
            and self.largest <= self.bound_largest
            and self.flips <= self.bound_flips
        )


def arguments_of(config: str) -> dict[str, Any]:
    """Arguments of `kmax.create_model` for a configuration of the originals, but flavour and image size."""
    dataset, backbone = config.split("_", 1)
    name = {"r50": "resnet50", "axial_r50": "max_s"}.get(backbone, backbone)
    cityscapes = dataset == "cityscapes"
    return {
        "name": f"kmax_{name}",
        "num_classes": {"coco": 133, "cityscapes": 19, "ade20k": 150}[dataset],
        "num_clusters": 256 if cityscapes else 128,
        "decoder_stages": 5 if cityscapes else 4,
    }


@lru_cache(maxsize=1)  # models are large, and tests come case by case
def model_of(config: str, flavour: str, image_size: Size) -> KMaX:
    """The model with weights of the rule."""
    return with_weights_of_rule(**arguments_of(config), flavour=flavour, image_size=image_size)


def with_weights_of_rule(**arguments: Any) -> KMaX:
    """The model of these arguments of `kmax.create_model`, with weights of the rule."""
    with torch.device("meta"):
        model = kmax.create_model(**arguments)
    listed, make, convert = {
        "tf": (tensorflow_entries, tf_weights, convert_tf),
        "torch": (torch_reference_entries, torch_weights, convert_torch_reference),
    }[arguments["flavour"]]
    weights = make((e.sources[0], e.source_shapes[0]) for e in listed(model))
    state = convert(weights, model)
    model.to_empty(device="cpu")
    model.load_state_dict(state)
    return model.eval()


class Recorder:
    """What modules returned, by name, in one forward pass."""

    def __init__(self, model: nn.Module) -> None:
        self.outputs: dict[str, Any] = {}
        self.hooks = [module.register_forward_hook(self.hook(name)) for name, module in model.named_modules()]

    def hook(self, name: str) -> Callable[..., None]:
        return lambda module, inputs, output: self.outputs.__setitem__(name, output)

    def __enter__(self) -> dict[str, Any]:
        return self.outputs

    def __exit__(self, *error: object) -> None:
        for hook in self.hooks:
            hook.remove()


@torch.no_grad()
def forward(model: KMaX, images: Tensor) -> tuple[Output, dict[str, Any]]:
    with Recorder(model) as parts:
        return model(images, semantic=True), parts


def relative_rms(ours: np.ndarray, recorded: np.ndarray) -> float:
    difference = ours.astype(np.float64) - recorded
    return float(np.sqrt(np.square(difference).mean() / np.square(recorded.astype(np.float64)).mean()))
