"""Which tensors of an original's checkpoint a tensor of the model is computed from, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

Shape = tuple[int, ...]
Convert = Callable[..., Tensor]


@dataclass(frozen=True)
class TensorMapping:
    """One tensor of a model, and its sources.

    Attributes:
        target: its name in `model.state_dict()`.
        sources: names of the original's tensors that it is computed from.
        source_shapes: their shapes.
        convert: pure function of the source tensors, in order; returns a tensor of the model's shape, a view
            of the source if possible.
    """

    target: str
    sources: tuple[str, ...]
    source_shapes: tuple[Shape, ...]
    convert: Convert


@dataclass(frozen=True)
class Layout:
    """How an original stores a kind of tensor.

    Attributes:
        source_shape: shape in the original, from the model's.
        convert: from the original's tensor to the model's.
    """

    source_shape: Callable[[Shape], Shape]
    convert: Convert

    def then(self, other: Layout) -> Layout:
        """This conversion followed by that of `other`, which keeps the shape."""
        return Layout(self.source_shape, lambda tensor: other.convert(self.convert(tensor)))


def permuted(*order: int) -> Layout:
    """The model's tensor is the original's with its axes in this order."""
    inverse = [order.index(axis) for axis in range(len(order))]
    return Layout(lambda shape: tuple(shape[axis] for axis in inverse), lambda tensor: tensor.permute(order))


SAME = Layout(lambda shape: shape, lambda tensor: tensor)


def reshaped(source: Sequence[int]) -> Layout:
    """The original keeps a vector of the model in this shape."""
    return Layout(lambda shape: tuple(source), lambda tensor: tensor.reshape(-1))


def rows(order: Sequence[int]) -> Layout:
    """The model's rows are these of the original."""
    if list(order) == list(range(len(order))):
        return SAME
    return Layout(lambda shape: shape, lambda tensor: tensor[list(order)])


class TensorMappings:
    """Collects the mappings of a model.

    Args:
        shapes: of the model's tensors, by name.
    """

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self.shapes = shapes
        self.all: list[TensorMapping] = []

    def add(self, target: str, source: str, layout: Layout = SAME) -> None:
        """The tensor `target` of the model is `source` in the original, in this layout."""
        shape = layout.source_shape(self.shapes[target])
        self.all.append(TensorMapping(target, (source,), (shape,), layout.convert))
