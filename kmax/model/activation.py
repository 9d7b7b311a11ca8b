"""Activations by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Literal["gelu", "relu", "hard_swish"]
Function = Callable[[Tensor], Tensor]

# Each as a function, and as one that overwrites its argument. GELU is the exact one.
FUNCTIONS: dict[Activation, tuple[Function, Function]] = {
    "gelu": (F.gelu, torch.ops.aten.gelu_),
    "relu": (F.relu, torch.ops.aten.relu_),
    "hard_swish": (F.hardswish, torch.ops.aten.hardswish_),
}


class Activate(nn.Module):
    """The activation of that name, as a module; None: the identity."""

    def __init__(self, name: Activation | None) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """The activation of x, elementwise."""
        return activate(x, self.name)

    def extra_repr(self) -> str:
        """The name, for printing."""
        return str(self.name)


def activate(x: Tensor, name: Activation | None) -> Tensor:
    """The activation of x, elementwise; None: x itself."""
    return x if name is None else FUNCTIONS[name][0](x)


def activate_new(x: Tensor, name: Activation | None) -> Tensor:
    """The activation of a tensor that has no other reader: in place, unless gradients need it."""
    if name is None or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return activate(x, name)
    return FUNCTIONS[name][1](x)
