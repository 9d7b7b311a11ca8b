"""The object graph of a checkpoint: which variable of the program each tensor is."""

from __future__ import annotations

from collections.abc import Iterator

from kmax.errors import InputError
from kmax.porting.tensorflow.bundle import Bundle
from kmax.porting.tensorflow.wire import DamagedError, content, fields

KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"


def variable_names(bundle: Bundle) -> dict[str, str]:
    """The name that TensorFlow gave the variable behind each tensor, by the tensor's name.

    Empty where the checkpoint has no object graph. Tensors without a name of their own are left out.

    Raises:
        InputError: the graph is damaged.
    """
    if KEY not in bundle:
        return {}
    graph = bundle[KEY]
    try:
        if graph.shape != ():
            raise DamagedError("not a single string")
        return {key: name for key, name in _attributes(bytes(graph[()])) if name}
    except (DamagedError, TypeError, ValueError) as error:
        raise InputError(f"{bundle.index}: tensor '{KEY}': damaged: {error}") from error


def _attributes(graph: bytes) -> Iterator[tuple[str, str]]:
    """(tensor's name, variable's name), from TrackableObjectGraph.nodes[].attributes[]."""
    for place, node in fields(graph):
        if place != 1:
            continue
        for inner, attribute in fields(content(node)):
            if inner == 2:
                strings = {number: value for number, value in fields(content(attribute)) if number in (2, 3)}
                name, key = (content(strings.get(number, b"")).decode() for number in (2, 3))
                yield key, name
