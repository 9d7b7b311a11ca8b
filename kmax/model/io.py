"""Weights as safetensors files that tell what they are: constructor arguments and categories in the metadata.

Nothing is allocated before the file's header agrees with the network that its metadata names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from kmax.config import Category, Parameters, PositiveInt, Size
from kmax.errors import InputError
from kmax.files import atomic_path
from kmax.model.create import create_model
from kmax.model.kmax import KMaX

ENCODER = "pixel_encoder."
FORMAT = 1
KEY = "kmax"
PORT_FIRST = "checkpoints of other programs are ported first, by `kmax port-file`"
# Arguments that weights are made for; with others they would not fit, or give wrong results.
FIXED = ("name", "num_classes", "num_clusters", "decoder_stages", "flavour")
# Operations that initial values are made with.
IN_PLACE = {
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
}
IN_PLACE |= {"ones_", "zeros_", "constant_", "kaiming_normal_", "kaiming_uniform_", "xavier_uniform_"}


class _Arguments(Parameters):
    """Arguments of `create_model` as a file carries them."""

    name: str
    num_classes: PositiveInt
    image_size: Size
    flavour: str
    num_clusters: PositiveInt
    decoder_stages: PositiveInt
    cross_attention: str
    drop_path: float
    backbone_drop_path: float


class _Metadata(Parameters):
    """All that a file says about itself."""

    format: Literal[1]
    arguments: _Arguments
    categories: list[Category]
    extra: dict[str, Any]


@dataclass(frozen=True)
class ModelMetadata:
    """What a weight file says about itself.

    Attributes:
        arguments: of `kmax.create_model`.
        categories: classes in the order of the network's outputs; void, the last output, is not among them.
        extra: whatever the writer added, as JSON values.
    """

    arguments: dict[str, Any]
    categories: list[Category]
    extra: dict[str, Any] = field(default_factory=dict)


def save_model(model: KMaX, path: Path, categories: list[Category], **extra_metadata: Any) -> None:
    """Write weights and metadata to `path`, atomically.

    Args:
        model: its `state_dict` is written, on whatever device it is.
        path: of the safetensors file.
        categories: classes in the order of the network's outputs, without void.
        extra_metadata: JSON values to keep in the file.

    Raises:
        InputError: `path` cannot be written, or the categories do not fit the model.
    """
    text = metadata_text(model, path, categories, extra_metadata)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={KEY: text})
        except SafetensorError as error:  # the library's way to report a full disk
            raise InputError(f"{path}: cannot be written: {error}") from error
        temporary.chmod(0o644)


def metadata_text(model: KMaX, path: Path, categories: list[Category], extra: Mapping[str, Any]) -> str:
    """What the file `path` of a model says about itself, under the key `KEY`.

    All under one key: the library writes several in random order, and equal models shall give equal bytes.

    Raises:
        InputError: the categories do not fit the model.
    """
    wanted = model.arguments["num_classes"]
    if len(categories) != wanted:
        raise InputError(
            f"{path}: the model has {wanted} classes, but there are {len(categories)} categories"
        )
    metadata = {
        "format": FORMAT,
        "arguments": model.arguments,
        "categories": [category.model_dump() for category in categories],
        "extra": dict(extra),
    }
    return json.dumps(metadata, allow_nan=False)


def shapes_only(name: str, **arguments: Any) -> KMaX:
    """A model without memory for its tensors (on the meta device); arguments of `create_model`.

    Raises:
        InputError: as `create_model`.
    """
    with torch.device("meta"), _NoValues():
        return create_model(name, **arguments)


class _NoValues(TorchFunctionMode):
    """Leaves out initial values: on the meta device they take most of the time, and there are none."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in IN_PLACE:
            return args[0] if args else kwargs["tensor"]  # torch.nn.init hands its functions on by keyword
        return func(*args, **kwargs)


def load_model(path: Path) -> tuple[KMaX, ModelMetadata]:
    """Build the model that `path` describes, with its weights, in evaluation mode on the CPU.

    Raises:
        InputError: the file is missing, damaged, not one of ours, or contradicts itself.
    """
    metadata = read_metadata(path)
    try:
        model = shapes_only(**{**metadata.arguments, "image_size": tuple(metadata.arguments["image_size"])})
    except InputError as error:
        raise InputError([f"{path}: {fault}" for fault in error.faults]) from error
    _check_shapes(path, _header_shapes(path), model.state_dict())
    model.to_empty(device="cpu")
    model.load_state_dict(_read_tensors(path))
    return model.eval(), metadata


def load_weights(model: KMaX, path: Path) -> None:
    """Load the tensors of `path` into `model`: all, or those of the pixel encoder if there are no others.

    Raises:
        InputError: the file is missing or damaged, says that it is of another model or flavour, or its
            tensors do not fit.
    """
    shapes = _header_shapes(path)
    state = model.state_dict()
    if shapes and all(name.startswith(ENCODER) for name in shapes):
        state = {name: tensor for name, tensor in state.items() if name.startswith(ENCODER)}
    elif not shapes.keys() & state.keys():
        raise InputError(
            f"{path}: none of its {len(shapes)} tensors is of this project's models; {PORT_FIRST}"
        )
    else:
        _check_arguments(path, model)
    _check_shapes(path, shapes, state)
    model.load_state_dict(_read_tensors(path), strict=False)


def _check_arguments(path: Path, model: KMaX) -> None:
    """Raise InputError where a file says that its network is another one: shapes alone may well agree."""
    with _open(path) as stream:
        if KEY not in (stream.metadata() or {}):
            return
    found = read_metadata(path).arguments
    wrong = [key for key in FIXED if found[key] != model.arguments[key]]
    if wrong:
        theirs, ours = (", ".join(f"{k}={d[k]!r}" for k in wrong) for d in (found, model.arguments))
        raise InputError(f"{path}: weights of a model with {theirs}, but this one has {ours}")


def read_metadata(path: Path) -> ModelMetadata:
    """The metadata alone, without the weights.

    Raises:
        InputError: the file is missing, damaged or not one of ours.
    """
    with _open(path) as stream:
        return parse_metadata(stream.metadata() or {}, path)


def parse_metadata(raw: Mapping[str, str], path: Path) -> ModelMetadata:
    """The model's metadata among all metadata of the file at `path`.

    Raises:
        InputError: damaged, or the file is not one of ours.
    """
    if KEY not in raw:
        raise InputError(f"{path}: no kmax model: metadata lack the constructor's arguments; {PORT_FIRST}")
    try:
        found = _Metadata.model_validate_json(raw[KEY])
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "JSON"
        raise InputError(
            f"{path}: metadata are damaged or of another version: {key}: {first['msg']}"
        ) from error
    arguments, categories = found.arguments.model_dump(), found.categories
    if len(categories) != arguments["num_classes"]:
        raise InputError(
            f"{path}: metadata contradict themselves: {arguments['num_classes']} classes, "
            f"{len(categories)} categories"
        )
    return ModelMetadata(arguments, categories, found.extra)


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except FileNotFoundError:
        raise InputError(f"{path}: weights not found") from None
    except (SafetensorError, OSError) as error:
        if Path(path).is_dir():
            raise InputError(f"{path}: a folder; a safetensors file is wanted") from None
        if Path(path).suffix != ".safetensors":
            raise InputError(f"{path}: no safetensors file; {PORT_FIRST}") from error
        raise InputError(f"{path}: no readable safetensors file: {error}") from error


def _header_shapes(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of every tensor, from the header alone."""
    with _open(path) as stream:
        slices = {name: stream.get_slice(name) for name in stream.keys()}  # noqa: SIM118 - no mapping
        return {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}


def _read_tensors(path: Path) -> dict[str, Tensor]:
    with _open(path) as stream:
        return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - no mapping


def _check_shapes(
    path: Path, shapes: Mapping[str, tuple[tuple[int, ...], str]], state: Mapping[str, Tensor]
) -> None:
    faults = [f"{path}: tensor '{name}' is missing" for name in state if name not in shapes]
    faults += [f"{path}: tensor '{name}' is none of the model's" for name in shapes if name not in state]
    for name in state.keys() & shapes.keys():
        shape, dtype = shapes[name]
        wanted = tuple(state[name].shape)
        if shape != wanted:
            faults.append(f"{path}: tensor '{name}' has shape {list(shape)}, the model {list(wanted)}")
        elif dtype != "F32":
            faults.append(f"{path}: tensor '{name}' has type {dtype}, the model F32")
    if faults:
        raise InputError(sorted(faults))
