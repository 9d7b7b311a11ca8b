"""Weights of the two originals, given in Python, as state dicts of our models.

The outputs of a converted model are in the dataset's order of classes, with void last.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kmax.errors import InputError
from kmax.model.kmax import KMaX
from kmax.porting.account import account_for
from kmax.porting.formats import Checkpoint
from kmax.porting.formats.state_dict_search import AVERAGES, WRAPPERS
from kmax.porting.naming import (
    TENSORFLOW,
    TORCH_REFERENCE,
    Naming,
    recognise,
    skip_reasons,
    wanted_entries,
)

NOT_TENSORS = (int, float, str, bytes, dict, list, tuple, type(None))


def convert_tf(
    variables: Mapping[str, Any], model: KMaX, *, thing_classes: Sequence[int] | None = None
) -> dict[str, Tensor]:
    """Variables of deeplab2, by the names of its checkpoints, as a state dict of `model`.

    Values are views of the variables where possible.

    Args:
        variables: name (ends in "/.ATTRIBUTES/VARIABLE_VALUE") -> array.
        model: made with flavour "tf"; it is not changed, and may be on the meta device.
        thing_classes: indices of the dataset's thing classes, which deeplab2 puts before stuff. None: those
            of COCO, Cityscapes or ADE20K by the number of classes; with another number, the order of classes
            stays the same.

    Raises:
        InputError: weights of another program, or wrapped or prefixed ones; a model of another flavour; or,
            one line per tensor, variables that are missing, have a wrong shape or
            type, or are neither weights of the model nor bookkeeping.
    """
    return _convert(variables, model, TENSORFLOW, thing_classes)


def convert_torch_reference(state: Mapping[str, Any], model: KMaX) -> dict[str, Tensor]:
    """A state dict of the PyTorch original as a state dict of `model`.

    Args:
        state: name -> tensor or array.
        model: made with flavour "torch"; it is not changed, and may be on the meta device.

    Raises:
        InputError: weights of another program, or wrapped or prefixed ones; a model of another flavour; or,
            one line per tensor, tensors that are missing, have a wrong shape or type,
            or are neither weights of the model nor constants and counters.
    """
    return _convert(state, model, TORCH_REFERENCE, None)


def _convert(
    source: Mapping[str, Any], model: KMaX, naming: Naming, thing_classes: Sequence[int] | None
) -> dict[str, Tensor]:
    where = str(naming.function)
    _check_origin(source, naming, where)
    _check_model(model, naming, where)
    entries = wanted_entries(naming, model, thing_classes)
    values = _InMemory(source, {name for entry in entries for name in entry.sources}, where)
    reason = skip_reasons(naming, values)
    account = account_for(values, entries, lambda name: values.ignored.get(name) or reason(name), {})
    faults = account.faults_by_name() | values.faults
    if faults:
        raise InputError([faults[name] for name in sorted(faults)])
    dtypes = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    return {
        entry.target: entry.convert(*map(values.tensor, entry.sources)).to(dtypes[entry.target])
        for entry in entries
    }


class _InMemory(Checkpoint):
    """Tensors and arrays of Python as a checkpoint.

    Args:
        values: by name.
        needed: names whose values must be tensors or arrays of floating-point numbers.
        where: the caller, which stands for the path.

    Attributes:
        faults: one line per needed value that is not, by name.
    """

    def __init__(self, values: Mapping[str, Any], needed: set[str], where: str) -> None:
        self.path = Path(where)
        self._values = values
        self._tensors: dict[str, Tensor] = {}
        self.faults: dict[str, str] = {}
        self.ignored = {name: "not a tensor" for name, one in values.items() if isinstance(one, NOT_TENSORS)}
        for name in sorted(needed & values.keys()):
            try:
                self._tensors[name] = as_tensor(values[name])
            except TypeError as error:
                self.faults[name] = f"{name}: {error}"

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return np.asarray(self._values[name])

    def tensor(self, name: str) -> Tensor:
        """A needed value."""
        return self._tensors[name]

    def describe(self, name: str) -> tuple[tuple[int, ...], str]:
        value = self._tensors.get(name, self._values[name])
        return tuple(getattr(value, "shape", ())), str(getattr(value, "dtype", "")).removeprefix("torch.")


def as_tensor(value: Any) -> Tensor:
    """A tensor or array as a tensor, on the same memory if torch can use it.

    Args:
        value: a tensor, a NumPy array, or an array of another library that NumPy can read.

    Raises:
        TypeError: none of these, or not of floating-point numbers.
    """
    if not isinstance(value, Tensor):
        return _from_array(value)
    if not value.is_floating_point():
        raise TypeError(f"type {value.dtype}, but the model needs a floating-point type")
    return value.detach()


def _from_array(value: Any) -> Tensor:
    if not hasattr(value, "__array__"):
        raise TypeError(f"expected an array or tensor, found {type(value).__name__}")
    array = np.asarray(value)
    if array.dtype.name == "bfloat16":  # an extension of NumPy that torch cannot read
        return torch.from_numpy(np.ascontiguousarray(array).view(np.int16)).view(torch.bfloat16)
    if array.dtype.kind != "f":
        raise TypeError(f"type {array.dtype.name}, but the model needs a floating-point type")
    if array.dtype.itemsize > 8:
        raise TypeError(f"type {array.dtype.name}, but the model needs at most 64 bits")
    if not array.dtype.isnative or any(step < 0 for step in array.strides):
        array = array.astype(array.dtype.newbyteorder("="))
    with warnings.catch_warnings():
        # Memory-mapped arrays are not writable. Nothing here writes.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _check_origin(source: Any, naming: Naming, where: str) -> None:
    """Raise InputError unless `source` maps names of this program to values."""
    if not isinstance(source, Mapping):
        raise InputError(f"{where}: expected a mapping from names to arrays, found {type(source).__name__}")
    wrappers = (*WRAPPERS, *AVERAGES)
    wrapper = next((name for name in wrappers if isinstance(source.get(name), Mapping)), None)
    if wrapper is not None:
        raise InputError(f"{where}: the weights are under the key '{wrapper}'; pass that mapping")
    for name in source:
        if not isinstance(name, str):
            raise InputError(
                f"{where}: expected a mapping from names to arrays; the key {name!r:.80} is not a string"
            )
    if not source:
        raise InputError(f"{where}: contains no tensors")
    found = recognise(source, where)
    if found is not naming:
        advice = (
            f"convert them with kmax.porting.{found.function}"
            if found.function
            else "load them with load_state_dict"
        )
        raise InputError(f"{where}: these look like weights of {found.program}; {advice}")


def _check_model(model: Any, naming: Naming, where: str) -> None:
    """Raise InputError unless `model` is one of ours, of the flavour of the weights."""
    if not isinstance(model, KMaX):
        raise InputError(
            f"{where}: expected a model made by kmax.create_model, found "
            f"{type(model).__name__}; unwrap it first"
        )
    flavour = str(naming.flavour)
    if model.arguments.flavour != flavour:
        raise InputError(
            f"{model.arguments.name}: created with flavour '{model.arguments.flavour}', but the weights "
            f"are of {naming.program}; create it with flavour='{flavour}'"
        )
