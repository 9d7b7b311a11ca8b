"""Which program named the tensors of a checkpoint, and which tensors a model needs under these names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kmax.checkpoint_formats import CheckpointFormat
from kmax.config import Flavour
from kmax.errors import InputError
from kmax.model.kmax import KMaX
from kmax.porting.tensor_mapping import TensorMapping
from kmax.porting.tensorflow_names import SUFFIX, is_orphan_slot, skipped_tf, tensorflow_entries
from kmax.porting.torch_names import skipped_torch_reference, torch_reference_entries


@dataclass(frozen=True)
class Naming:
    """The names that one program gives to tensors.

    Attributes:
        program: for messages.
        flavour: of the network that such weights were trained in; None: the names do not determine it.
        source: matching value of `port.source` and of `kmax port-file`; None: several match.
        function: function of `kmax.porting` that converts such weights; None: no conversion is needed.
        starts: beginnings of names that distinguish them from those of other programs.
    """

    program: str
    flavour: Flavour | None
    source: CheckpointFormat | None
    function: str | None
    starts: tuple[str, ...]


TENSORFLOW = Naming(
    program="the TensorFlow original (google-research/deeplab2)",
    flavour="tf",
    source="tf",
    function="convert_tf",
    starts=("encoder/", "pixel_decoder/", "transformer_decoder/"),
)
THIS_PROJECT = Naming(
    program="this project",
    flavour=None,
    source=None,
    function=None,
    starts=("pixel_encoder.", "pixel_decoder.", "transformer_decoder."),
)
TORCH_REFERENCE = Naming(
    program="the PyTorch original (bytedance/kmax-deeplab)",
    flavour="torch",
    source="torch",
    function="convert_torch_reference",
    starts=("sem_seg_head.", "backbone."),
)
NAMINGS = (TENSORFLOW, THIS_PROJECT, TORCH_REFERENCE)


def recognise(names: Iterable[str], where: str) -> Naming:
    """The program that these names come from.

    Args:
        names: of the checkpoint's tensors.
        where: the checkpoint, for the message.

    Raises:
        InputError: from no known program, or with a prefix.
    """
    names = list(names)
    _check_separators(names, where)
    for naming in NAMINGS:
        if any(name.startswith(naming.starts) for name in names):
            return naming
    if found := _prefixed(names):
        prefixes, naming = found
        quoted = ", ".join(f"'{prefix:.80}'" for prefix in prefixes[:3])
        what = f"{where}: these look like weights of {naming.program}, but with"
        if len(prefixes) == 1:
            raise InputError(f"{what} the prefix {quoted} of a wrapper; remove it")
        raise InputError(f"{what} the prefixes {quoted}; keep the tensors of one of them, without it")
    if any(name.endswith(SUFFIX) for name in names):
        return TENSORFLOW
    raise InputError(
        f"{where}: its tensor names (such as '{names[0][:80]}') match neither original nor this project"
    )


def _check_separators(names: list[str], where: str) -> None:
    """Raise InputError for names of torch programs whose parts are not separated by dots."""
    roots = [start.removesuffix(".") for start in (*THIS_PROJECT.starts, *TORCH_REFERENCE.starts)]
    roots = [root for root in roots if f"{root}/" not in TENSORFLOW.starts]
    for separator in "/", ":", "|", "-", "__":
        starts = tuple(f"{root}{separator}" for root in roots)
        if (name := next((name for name in names if name.startswith(starts)), None)) is not None:
            raise InputError(
                f"{where}: the parts of its tensor names (such as '{name[:80]}') are separated by "
                f"'{separator}'; rename the tensors, with '.' instead"
            )


def _prefixed(names: Iterable[str]) -> tuple[list[str], Naming] | None:
    """The prefixes of known names, if there are any: the shortest first, since some names contain others."""
    found: list[tuple[str, Naming]] = []
    for naming in NAMINGS:
        known = re.compile(rf"(.*?[./])(?:{'|'.join(map(re.escape, naming.starts))})")
        found += [(match[1], naming) for name in names if (match := known.match(name))]
    if not found:
        return None
    naming = min(found, key=lambda pair: len(pair[0]))[1]
    prefixes = {prefix for prefix, one in found if one is naming}
    return sorted(prefixes, key=lambda prefix: (len(prefix), prefix)), naming


def wanted_entries(naming: Naming, model: KMaX, thing_classes: Sequence[int] | None) -> list[TensorMapping]:
    """The tensors that the model is computed from, under these names.

    Args:
        model: may be on the meta device.
        thing_classes: indices of the thing classes; see `kmax.porting.tensorflow_names.dataset_order`.
    """
    if naming is TENSORFLOW:
        return tensorflow_entries(model, thing_classes)
    if naming is TORCH_REFERENCE:
        return torch_reference_entries(model)
    return own_entries(model)


def own_entries(model: KMaX) -> list[TensorMapping]:
    """Each tensor is that of the same name."""
    return [
        TensorMapping(name, (name,), (tuple(tensor.shape),), lambda tensor: tensor)
        for name, tensor in model.state_dict().items()
    ]


def skip_reasons(naming: Naming, names: Iterable[str]) -> Callable[[str], str | None]:
    """A function of a tensor's name: why it is not a weight, or None if it should be one.

    An optimiser's state of a weight that is not in the checkpoint is not skipped: something is missing.
    """
    if naming is not TENSORFLOW:
        return skipped_torch_reference
    known = set(names)
    return lambda name: None if is_orphan_slot(name, known) else skipped_tf(name)
