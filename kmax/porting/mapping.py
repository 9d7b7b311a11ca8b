"""Weights of the two originals as state dicts of our models.

The outputs of a converted model are in the dataset's order of classes, with void last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from kmax.errors import InputError
from kmax.model.kmax import KMaX
from kmax.porting.arrays import as_tensor
from kmax.porting.entries import Entry
from kmax.porting.naming import TENSORFLOW, TORCH_REFERENCE, Naming, recognise
from kmax.porting.pickles import WRAPPERS
from kmax.porting.skipped import skipped_tf, skipped_torch_reference
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
        InputError: weights of another original or inside of something (which one it looks like), a model of
            another flavour; or, one line per tensor, variables that are missing, have a wrong shape or type,
            or are neither weights of the model nor bookkeeping (see `skipped_tf`).
    """
    _check_origin(variables, TENSORFLOW, "convert_tf")
    _check_model(model, TENSORFLOW, "convert_tf")
    weights = {name: value for name, value in variables.items() if skipped_tf(name) is None}
    return _convert(weights, tensorflow_entries(model, thing_classes), model)


def convert_torch_reference(state: Mapping[str, Any], model: KMaX) -> dict[str, Tensor]:
    """A state dict of the PyTorch original as a state dict of `model`.

    Args:
        state: name -> tensor or array.
        model: made with flavour "torch"; it is not changed, and may be on the meta device.

    Raises:
        InputError: weights of another original or inside of something (which one it looks like), a model of
            another flavour; or, one line per tensor, tensors that are missing, have a wrong shape or type, or
            are not weights of the model (except for those of `skipped_torch_reference`).
    """
    _check_origin(state, TORCH_REFERENCE, "convert_torch_reference")
    _check_model(model, TORCH_REFERENCE, "convert_torch_reference")
    weights = {name: value for name, value in state.items() if skipped_torch_reference(name) is None}
    return _convert(weights, torch_reference_entries(model), model)


def _check_origin(source: Any, naming: Naming, where: str) -> None:
    """Raise InputError unless `source` is a mapping of such names to values, or of nobody's that is known."""
    if not isinstance(source, Mapping):
        raise InputError(f"{where}: a mapping of names to arrays is wanted, not {type(source).__name__}")
    wrapper = next((name for name in WRAPPERS if isinstance(source.get(name), Mapping)), None)
    if wrapper is not None:
        raise InputError(f"{where}: the weights lie under '{wrapper}' of this mapping; hand over that part")
    for name in source:
        if not isinstance(name, str):
            raise InputError(f"{where}: a mapping of names to arrays is wanted; {name!r:.80} is no name")
    if not source:
        raise InputError(f"{where}: there are no tensors")
    found = recognise(source, where)
    if found is not naming:
        advice = (
            f"kmax.porting.{found.function} converts them" if found.function else "load_state_dict takes them"
        )
        raise InputError(f"{where}: these look like weights of {found.words}; {advice}")


def _check_model(model: Any, naming: Naming, where: str) -> None:
    """Raise InputError unless `model` is one of ours, and computes what the weights' original does."""
    if not isinstance(model, KMaX):
        raise InputError(
            f"{where}: a model of kmax.create_model is wanted, not {type(model).__name__}; of one that "
            "something wraps, hand over what is inside"
        )
    flavour = str(naming.flavour)
    if model.arguments.flavour != flavour:
        raise InputError(
            f"{model.arguments.name}: made with flavour '{model.arguments.flavour}', but the weights "
            f"are of {naming.words}; make it with flavour='{flavour}'"
        )


def _convert(source: Mapping[str, Any], entries: Sequence[Entry], model: KMaX) -> dict[str, Tensor]:
    wanted = {name for entry in entries for name in entry.sources}
    faults = [f"{name}: not a weight of the model" for name in source if name not in wanted]
    dtypes = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    state = {}
    for entry in entries:
        tensors = []
        for name, shape in zip(entry.sources, entry.source_shapes, strict=True):
            if name not in source:
                faults.append(f"{name}: missing; the model wants shape {list(shape)} for {entry.target}")
                continue
            try:
                tensor = as_tensor(source[name])
            except TypeError as error:
                faults.append(f"{name}: {error}")
                continue
            if tuple(tensor.shape) != shape:
                found, wants = list(tensor.shape), list(shape)
                faults.append(f"{name}: shape {found}, but the model wants {wants} for {entry.target}")
                continue
            tensors.append(tensor)
        if len(tensors) == len(entry.sources):
            state[entry.target] = entry.convert(*tensors).to(dtypes[entry.target])
    if faults:
        raise InputError(sorted(faults))
    return state
