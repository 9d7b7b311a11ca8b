"""What becomes of every tensor of a checkpoint when it is put into a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kmax.errors import InputError

Fate = Literal["mapped", "missing", "unexpected", "wrong shape", "wrong type", "not finite"]


@dataclass(frozen=True)
class Line:
    """One tensor: its name in the checkpoint and in the model, both shapes, what became of it."""

    name: str
    fate: Fate
    source_shape: list[int] | None
    model_shape: list[int] | None
    dtype: str | None

    def fault(self) -> str:
        """The line in words."""
        match self.fate:
            case "missing":
                return f"{self.name}: missing in the checkpoint; the model wants shape {self.model_shape}"
            case "unexpected":
                return f"{self.name}: shape {self.source_shape}, not a tensor of the model"
            case "wrong shape":
                return f"{self.name}: shape {self.source_shape}, but the model wants {self.model_shape}"
            case "wrong type":
                return f"{self.name}: of type {self.dtype}, which does not fit the model's"
            case "not finite":
                return f"{self.name}: contains NaN or infinite values"
            case _:
                return f"{self.name}: mapped"


@dataclass(frozen=True)
class Account:
    """Every tensor of a checkpoint and of the model it goes to."""

    lines: list[Line]

    @property
    def faults(self) -> list[str]:
        """One line for each tensor that is not mapped."""
        return [line.fault() for line in self.lines if line.fate != "mapped"]

    def counts(self) -> dict[str, int]:
        """How many tensors had which fate."""
        fates = [line.fate for line in self.lines]
        return {fate: fates.count(fate) for fate in sorted(set(fates))}

    def to_json(self) -> dict[str, Any]:
        """For port.json."""
        return {"counts": self.counts(), "tensors": [vars(line) for line in self.lines]}

    def require_complete(self, where: str) -> None:
        """Raise unless every tensor of both sides is mapped.

        Raises:
            InputError: one line per tensor that is not, after a line of counts.
        """
        if faults := self.faults:
            counts = ", ".join(f"{count} {fate}" for fate, count in self.counts().items())
            raise InputError([f"{where}: does not fit the model: {counts}", *faults])


def account_for(source: Mapping[str, Tensor], model: nn.Module) -> Account:
    """Compare a checkpoint whose tensors carry this project's names with a model's."""
    target = model.state_dict()
    return Account([_line(name, source.get(name), target.get(name)) for name in sorted({*source, *target})])


def _line(name: str, source: Tensor | None, target: Tensor | None) -> Line:
    fate: Fate
    if source is None:
        fate = "missing"
    elif target is None:
        fate = "unexpected"
    elif source.shape != target.shape:
        fate = "wrong shape"
    elif source.is_floating_point() != target.is_floating_point():
        fate = "wrong type"
    elif source.is_floating_point() and not bool(torch.isfinite(source).all()):
        fate = "not finite"
    else:
        fate = "mapped"
    return Line(
        name=name,
        fate=fate,
        source_shape=None if source is None else list(source.shape),
        model_shape=None if target is None else list(target.shape),
        dtype=None if source is None else str(source.dtype).removeprefix("torch."),
    )
