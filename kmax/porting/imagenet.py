"""ImageNet weights of a pixel encoder: timm's, the PyTorch original's, the TensorFlow zoo's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch

from kmax.errors import InputError
from kmax.model.construction import shapes_only
from kmax.model.io import ENCODER
from kmax.porting.account import Account, account_for
from kmax.porting.formats import Checkpoint
from kmax.porting.tensor_mapping import TensorMapping
from kmax.porting.tensorflow_names import SUFFIX, skipped_tf, tensorflow_entries
from kmax.porting.torch_names import skipped_torch_reference, torch_reference_entries

NETWORK = f"{ENCODER}network."
# Beginnings of the names of ImageNet's classifiers, which the pixel encoder does not have.
CLASSIFIERS = ("fc.", "head.", "classifier.", "linear.", "norm.", "norm_pre.", "stem.fc.")
TENSORFLOW_PREFIXES = ("encoder/", "backbone/_encoder/")


@dataclass(frozen=True)
class Encoder:
    """The mappings of a pixel encoder, the account of all tensors, and the shapes of its own tensors."""

    entries: list[TensorMapping]
    account: Account
    shapes: dict[str, tuple[int, ...]]


def find_encoder(checkpoint: Checkpoint, model_name: str) -> Encoder:
    """The tensors that a model's pixel encoder is computed from, whichever program named them.

    Args:
        checkpoint: with names of timm, of the PyTorch original, of this project or of TensorFlow.
        model_name: as for `kmax.create_model`.

    Raises:
        InputError: no such model.
    """
    flavour = "tf" if any(name.endswith(SUFFIX) for name in checkpoint) else "torch"
    if model_name == "kmax_max_s":
        flavour = "tf"
    model = shapes_only(model_name, num_classes=1, image_size=(129, 129), flavour=flavour)
    shapes = {
        name: tuple(value.shape) for name, value in model.state_dict().items() if name.startswith(ENCODER)
    }
    candidates = [
        list(_identical(shapes, ENCODER, checkpoint)),
        list(_identical(shapes, NETWORK, checkpoint)),
    ]
    for make, prefixes in (
        (tensorflow_entries, TENSORFLOW_PREFIXES),
        (torch_reference_entries, ("backbone.", "")),
    ):
        candidates += [_renamed(make, model, prefixes[0], prefix) for prefix in prefixes]
    found = max(candidates, key=lambda entries: sum(entry.sources[0] in checkpoint for entry in entries))
    return Encoder(found, account_for(checkpoint, found, _reason, {}), shapes)


def _identical(
    shapes: dict[str, tuple[int, ...]], prefix: str, checkpoint: Checkpoint
) -> Iterable[TensorMapping]:
    """The encoder's own names, or timm's, which are their ends; linear layers may be 1x1 convolutions."""
    for target, shape in shapes.items():
        name = target.removeprefix(prefix) if prefix == NETWORK else target
        found = checkpoint.describe(name)[0] if name in checkpoint else shape
        if found != shape and math.prod(found) == math.prod(shape) and _squeezed(found) == _squeezed(shape):
            yield TensorMapping(target, (name,), (found,), lambda tensor, shape=shape: tensor.reshape(shape))
        else:
            yield TensorMapping(target, (name,), (shape,), lambda tensor: tensor)


def _renamed(
    make: Callable[..., list[TensorMapping]], model: torch.nn.Module, prefix: str, other: str
) -> list[TensorMapping]:
    """Mappings of the encoder, with another prefix of the sources' names."""
    try:
        entries = make(model)
    except InputError:  # the original has no such model
        return []
    return [
        replace(entry, sources=tuple(other + source.removeprefix(prefix) for source in entry.sources))
        for entry in entries
        if entry.target.startswith(ENCODER)
    ]


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(side for side in shape if side != 1)


def _reason(name: str) -> str | None:
    if name.startswith(CLASSIFIERS) or (name.endswith(SUFFIX) and not name.startswith(TENSORFLOW_PREFIXES)):
        return "not part of the pixel encoder"
    if name.endswith("num_batches_tracked"):
        return "counts batches"
    return skipped_tf(name) or skipped_torch_reference(name)
