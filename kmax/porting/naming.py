"""Whose names the tensors of a checkpoint carry, and what a model asks for under these names."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from kmax.config import Flavour
from kmax.errors import InputError
from kmax.model.kmax import KMaX
from kmax.porting.entries import Entry
from kmax.porting.skipped import skipped_tf, skipped_torch_reference
from kmax.porting.tensorflow_names import SUFFIX, tensorflow_entries
from kmax.porting.torch_names import torch_reference_entries

SLOT = "/.OPTIMIZER_SLOT/"


@dataclass(frozen=True)
class Naming:
    """Whose names.

    Attributes:
        words: for messages.
        flavour: of the network that such weights were trained in; None where the names do not tell.
        source: value of `port.source` and of `kmax port-file` that fits; None where several do.
        function: of `kmax.porting`, which converts such weights; None where nothing is to be converted.
        starts: beginnings of names that tell them from others'.
    """

    words: str
    flavour: Flavour | None
    source: str | None
    function: str | None
    starts: tuple[str, ...]


TENSORFLOW = Naming(
    words="the TensorFlow original (google-research/deeplab2)",
    flavour="tf",
    source="tf",
    function="convert_tf",
    starts=("encoder/", "pixel_decoder/", "transformer_decoder/"),
)
THIS_PROJECT = Naming(
    words="this project",
    flavour=None,
    source=None,
    function=None,
    starts=("pixel_encoder.", "pixel_decoder.", "transformer_decoder."),
)
TORCH_REFERENCE = Naming(
    words="the PyTorch original (bytedance/kmax-deeplab)",
    flavour="torch",
    source="torch",
    function="convert_torch_reference",
    starts=("sem_seg_head.", "backbone."),
)
NAMINGS = (TENSORFLOW, THIS_PROJECT, TORCH_REFERENCE)


def recognise(names: Iterable[str], where: str) -> Naming:
    """Whose names these are.

    Args:
        names: of the checkpoint's tensors.
        where: the checkpoint, for the message.

    Raises:
        InputError: nobody's that is known, or with something before the name.
    """
    names = list(names)
    for naming in NAMINGS:
        if any(name.startswith(naming.starts) for name in names):
            return naming
    if found := _prefixed(names):
        prefix, naming = found
        raise InputError(
            f"{where}: these look like weights of {naming.words}, but with '{prefix:.80}' before "
            "their names, as a wrapper puts it there; remove it"
        )
    if any(name.endswith(SUFFIX) for name in names):
        return TENSORFLOW
    raise InputError(
        f"{where}: its names (such as '{names[0][:80]}') are those of neither original nor of this project"
    )


def _prefixed(names: Iterable[str]) -> tuple[str, Naming] | None:
    """What stands before known names, where something does: the shortest, since names contain others."""
    found = []
    for naming in NAMINGS:
        known = re.compile(rf"(.*?[./])(?:{'|'.join(map(re.escape, naming.starts))})")
        found += [(match[1], naming) for name in names if (match := known.match(name))]
    return min(found, key=lambda pair: len(pair[0]), default=None)


def wanted_entries(naming: Naming, model: KMaX, thing_classes: Sequence[int]) -> list[Entry]:
    """What the model is made of, under these names.

    Args:
        model: may be on the meta device.
        thing_classes: places of the thing classes in the dataset's order.
    """
    if naming is TENSORFLOW:
        return tensorflow_entries(model, thing_classes)
    if naming is TORCH_REFERENCE:
        return torch_reference_entries(model)
    return own_entries(model)


def own_entries(model: KMaX) -> list[Entry]:
    """Each tensor from the one of its name."""
    return [
        Entry(name, (name,), (tuple(tensor.shape),), lambda tensor: tensor)
        for name, tensor in model.state_dict().items()
    ]


def skip_reasons(naming: Naming, names: Iterable[str]) -> Callable[[str], str | None]:
    """Why a tensor is no weight, under these names; None where it should be one.

    An optimiser's state of a weight that is not there is no reason to be silent: something is missing.
    """
    if naming is not TENSORFLOW:
        return skipped_torch_reference
    known = set(names)
    return lambda name: None if is_orphan_slot(name, known) else skipped_tf(name)


def is_orphan_slot(name: str, names: Collection[str]) -> bool:
    """Whether a tensor is an optimiser's state of a weight that `names` lacks."""
    weight, slot, _ = name.partition(SLOT)
    return bool(slot) and weight + SUFFIX not in names
