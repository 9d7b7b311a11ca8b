"""One tensor of a model, and what it is made of in an original's checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

Shape = tuple[int, ...]
Convert = Callable[..., Tensor]


@dataclass(frozen=True)
class Entry:
    """One tensor of a model.

    Attributes:
        target: its name in `model.state_dict()`.
        sources: names of the tensors in the original that it is made of.
        source_shapes: their shapes.
        convert: pure function of the source tensors, in order; returns a tensor of the model's shape, a view
            of the source where there is one.
    """

    target: str
    sources: tuple[str, ...]
    source_shapes: tuple[Shape, ...]
    convert: Convert


@dataclass(frozen=True)
class Form:
    """How an original stores a kind of tensor.

    Attributes:
        source_shape: shape in the original, from the model's.
        convert: from the original's tensor to the model's.
    """

    source_shape: Callable[[Shape], Shape]
    convert: Convert

    def then(self, other: Form) -> Form:
        """The original's tensor goes through this form and then through `other`, which keeps the shape."""
        return Form(self.source_shape, lambda tensor: other.convert(self.convert(tensor)))


def permuted(*order: int) -> Form:
    """The model's tensor is the original's with its axes in this order."""
    inverse = [order.index(axis) for axis in range(len(order))]
    return Form(lambda shape: tuple(shape[axis] for axis in inverse), lambda tensor: tensor.permute(order))


SAME = Form(lambda shape: shape, lambda tensor: tensor)


def reshaped(source: Sequence[int]) -> Form:
    """The original keeps a vector of the model in this shape."""
    return Form(lambda shape: tuple(source), lambda tensor: tensor.reshape(-1))


def rows(order: Sequence[int]) -> Form:
    """The model's rows are these of the original."""
    if list(order) == list(range(len(order))):
        return SAME
    return Form(lambda shape: shape, lambda tensor: tensor[list(order)])


class Entries:
    """Collects the entries of a model.

    Args:
        shapes: of the model's tensors, by name.
    """

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self.shapes = shapes
        self.all: list[Entry] = []

    def add(self, target: str, source: str, form: Form = SAME) -> None:
        """The tensor `target` of the model is `source` in the original, in that form."""
        shape = form.source_shape(self.shapes[target])
        self.all.append(Entry(target, (source,), (shape,), form.convert))
