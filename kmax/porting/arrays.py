"""Values that users hand over as weights: tensors, arrays, and what can be taken for one."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_tensor(value: Any) -> Tensor:
    """A tensor or array as a tensor on the same memory, where torch can read it as it is.

    Args:
        value: a tensor, a NumPy array, or an array of another library that NumPy can read.

    Raises:
        TypeError: it is none of these, or not of floating-point numbers; the message says what it is.
    """
    if not isinstance(value, Tensor):
        return _from_array(value)
    if not value.is_floating_point():
        raise TypeError(f"of type {value.dtype}, but the model wants a floating-point type")
    return value.detach()


def _from_array(value: Any) -> Tensor:
    if not hasattr(value, "__array__"):
        raise TypeError(f"a {type(value).__name__}, but an array or tensor is wanted")
    array = np.asarray(value)
    if array.dtype.name == "bfloat16":  # NumPy has no such type of its own; torch has
        return torch.from_numpy(np.ascontiguousarray(array).view(np.int16)).view(torch.bfloat16)
    if array.dtype.kind != "f":
        raise TypeError(f"of type {array.dtype.name}, but the model wants a floating-point type")
    if array.dtype.itemsize > 8:
        raise TypeError(f"of type {array.dtype.name}, but the model wants 64 bits at most")
    if not array.dtype.isnative or any(step < 0 for step in array.strides):
        array = array.astype(array.dtype.newbyteorder("="))
    with warnings.catch_warnings():
        # Arrays over a file cannot be written to. Nothing here writes.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
