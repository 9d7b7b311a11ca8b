"""Weights of the two originals as state dicts of our models.

The outputs of a converted model are in the dataset's order of classes, with void last.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kmax.errors import InputError
from kmax.model.flavour import FLAVOURS
from kmax.model.kmax import KMaX
from kmax.porting.entries import Entry
from kmax.porting.tensorflow_names import tensorflow_entries
from kmax.porting.torch_names import torch_reference_entries

__all__ = [
    "Entry",
    "convert_tf",
    "convert_torch_reference",
    "skipped_tf",
    "skipped_torch_reference",
    "tensorflow_entries",
    "torch_reference_entries",
]


_BOOKKEEPING = re.compile(r"_CHECKPOINTABLE_OBJECT_GRAPH|(save_counter|global_step)(/.*)?")
_OPTIMIZER = re.compile(r"(.*/\.OPTIMIZER_SLOT|optimizer|backbone_optimizer)/.*")


def skipped_tf(name: str) -> str | None:
    """Why a variable of a TensorFlow checkpoint is no weight of the network; None if it should be one."""
    if _BOOKKEEPING.fullmatch(name):
        return "bookkeeping of the checkpoint"
    if _OPTIMIZER.fullmatch(name):
        return "state of the optimiser"
    return None


def skipped_torch_reference(name: str) -> str | None:
    """Why a tensor of the PyTorch original is no weight of the network; None if it should be one."""
    if name.endswith(".num_batches_tracked"):
        return "counts batches, which moving averages of a fixed momentum do not need"
    if name in ("pixel_mean", "pixel_std", "criterion.empty_weight"):
        return "a constant"
    return None


def convert_tf(
    variables: Mapping[str, Any], model: KMaX, *, thing_classes: Sequence[int] | None = None
) -> dict[str, Tensor]:
    """Variables of deeplab2, by the names of its checkpoints, as a state dict of `model`.

    Values are not copied where a view will do.

    Args:
        variables: name (ends in "/.ATTRIBUTES/VARIABLE_VALUE") -> array.
        model: made with flavour "tf"; it is not changed, and may be on the meta device.
        thing_classes: indices of the dataset's thing classes, which deeplab2 puts before stuff. None: those
            of COCO, Cityscapes or ADE20K by the number of classes; with another number, no class moves.

    Raises:
        InputError: another flavour; or, one line per tensor, variables that are missing, have a wrong shape
            or type, or are neither weights of the model nor bookkeeping (see `skipped_tf`).
    """
    _check_flavour(model, "tf")
    weights = {name: value for name, value in variables.items() if skipped_tf(name) is None}
    return _convert(weights, tensorflow_entries(model, thing_classes), model)


def convert_torch_reference(state: Mapping[str, Any], model: KMaX) -> dict[str, Tensor]:
    """A state dict of the PyTorch original as a state dict of `model`.

    Args:
        state: name -> tensor or array.
        model: made with flavour "torch"; it is not changed, and may be on the meta device.

    Raises:
        InputError: another flavour; or, one line per tensor, tensors that are missing, have a wrong shape or
            type, or are not weights of the model (except for those of `skipped_torch_reference`).
    """
    _check_flavour(model, "torch")
    weights = {name: value for name, value in state.items() if skipped_torch_reference(name) is None}
    return _convert(weights, torch_reference_entries(model), model)


def _check_flavour(model: KMaX, flavour: str) -> None:
    if model.flavour != FLAVOURS[flavour]:
        raise InputError(
            f"{model.arguments['name']}: made with flavour '{model.arguments['flavour']}', but the weights "
            f"are of the original called '{flavour}'; make it with flavour='{flavour}'"
        )


def _convert(source: Mapping[str, Any], entries: Sequence[Entry], model: KMaX) -> dict[str, Tensor]:
    wanted = {name for entry in entries for name in entry.sources}
    faults = [f"{name}: not a weight of the model" for name in source if name not in wanted]
    dtypes = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    state = {}
    for entry in entries:
        problems = []
        for name, shape in zip(entry.sources, entry.source_shapes, strict=True):
            if name not in source:
                problems.append(f"{name}: missing; the model wants shape {list(shape)} for {entry.target}")
            elif tuple(source[name].shape) != shape:
                found = list(source[name].shape)
                problems.append(
                    f"{name}: shape {found}, but the model wants {list(shape)} for {entry.target}"
                )
        if not problems:
            tensors = [_tensor(source[name]) for name in entry.sources]
            problems = [
                f"{name}: of type {tensor.dtype}, but the model wants a floating-point type"
                for name, tensor in zip(entry.sources, tensors, strict=True)
                if not tensor.is_floating_point()
            ]
        if problems:
            faults += problems
        else:
            state[entry.target] = entry.convert(*tensors).to(dtypes[entry.target])
    if faults:
        raise InputError(sorted(faults))
    return state


def _tensor(value: Any) -> Tensor:
    """An array as a tensor on the same memory, where torch can read it as it is."""
    if isinstance(value, Tensor):
        return value.detach()
    array = np.asarray(value)
    if array.dtype.name == "bfloat16":  # NumPy has no such type of its own; torch has
        return torch.from_numpy(np.ascontiguousarray(array).view(np.int16)).view(torch.bfloat16)
    if not array.dtype.isnative or any(step < 0 for step in array.strides):
        array = array.astype(array.dtype.newbyteorder("="))
    with warnings.catch_warnings():
        # Arrays over a file cannot be written to. Nothing here writes.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
