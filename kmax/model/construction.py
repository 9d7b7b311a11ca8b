"""Networks from their arguments, with or without memory for their tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from kmax.config import ModelArguments
from kmax.config.model_sizes import SIZES, AxialResNetSize
from kmax.errors import InputError
from kmax.model.kmax import KMaX
from kmax.model.model_flavour import MODEL_FLAVOURS
from kmax.parameter_files import parse

# Defaults of `kmax.create_model`: the paper's model on COCO, as in deeplab2.
DEFAULTS: dict[str, Any] = {
    "flavour": "tf",
    "num_clusters": 128,
    "decoder_stages": 4,
    "cross_attention": "kmeans",
    "drop_path": 0.0,
    "backbone_drop_path": 0.0,
}
# Operations that set initial values.
INITIALISERS = {
    "uniform_",
    "normal_",
    "zero_",
    "fill_",
    "copy_",
    "mul_",
    "add_",
    "clamp_",
    "erfinv_",
    "trunc_normal_",
    "ones_",
    "zeros_",
    "constant_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "xavier_uniform_",
}


def model_arguments(name: str, **arguments: Any) -> ModelArguments:
    """Arguments of `kmax.create_model`, checked, with its defaults.

    Raises:
        InputError: an unknown or missing argument, or an impossible value; one line each.
    """
    return parse(ModelArguments, {**DEFAULTS, **arguments, "name": name}, "create_model")


def build_model(arguments: ModelArguments) -> KMaX:
    """The network, with the originals' initial values.

    Raises:
        InputError: the flavour's original has no such network, or the image size is not supported.
    """
    size = SIZES[arguments.name]
    if isinstance(size.encoder, AxialResNetSize) and not MODEL_FLAVOURS[arguments.flavour].axial_resnet:
        raise InputError(
            f"create_model: {arguments.name} does not exist in flavour "
            f"'{arguments.flavour}'; use flavour 'tf'"
        )
    return KMaX(size, arguments)


def shapes_only(name: str, **arguments: Any) -> KMaX:
    """A model without memory for its tensors (on the meta device); arguments of `kmax.create_model`.

    Raises:
        InputError: as `kmax.create_model`.
    """
    return build_shapes(model_arguments(name, **arguments))


def build_shapes(arguments: ModelArguments) -> KMaX:
    """As `build_model`, without memory for the tensors (on the meta device)."""
    with torch.device("meta"), _NoValues():
        return build_model(arguments)


class _NoValues(TorchFunctionMode):
    """Skips initial values, which have no effect on the meta device but take most of the time."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in INITIALISERS:
            return args[0] if args else kwargs["tensor"]  # torch.nn.init passes it by keyword
        return func(*args, **kwargs)
