"""Weights as safetensors files that describe their network: its arguments and categories are in the metadata.

No tensor is allocated before the file's header agrees with the network that its metadata names.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from kmax.config import Category, ModelArguments, Parameters
from kmax.errors import InputError
from kmax.file_kinds import INDEX, PICKLE, SAFETENSORS, TORCH, file_kind, missing
from kmax.files import atomic_path, cannot_write, new_mode
from kmax.model.construction import build_shapes
from kmax.model.kmax import KMaX

ENCODER = "pixel_encoder."
FORMAT = 1
KEY = "kmax"
PORT_FIRST = "convert checkpoints of other programs with `kmax port-file`"
# Arguments that determine the weights: with other values they would not load, or give wrong results.
FIXED = ("name", "num_classes", "num_clusters", "decoder_stages", "flavour")


class _Metadata(Parameters):
    """The metadata of a file."""

    format: Literal[1]
    arguments: ModelArguments
    categories: list[Category]
    extra: dict[str, Any]


@dataclass(frozen=True)
class ModelMetadata:
    """The metadata of a weight file.

    Attributes:
        arguments: of `kmax.create_model`.
        categories: classes in the order of the network's outputs; void, the last output, is not among them.
        extra: JSON values that the writer added.
    """

    arguments: ModelArguments
    categories: list[Category]
    extra: dict[str, Any] = field(default_factory=dict)


def save_model(model: KMaX, path: Path, categories: list[Category], **extra_metadata: Any) -> None:
    """Write weights and metadata to `path`, atomically.

    Args:
        model: on any device; its `state_dict` is written.
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
        except SafetensorError as error:  # raised by the library when the disk is full
            raise _write_error(path, error) from error
        temporary.chmod(new_mode())


def _write_error(path: Path, error: SafetensorError) -> InputError:
    """The error of a file that the library could not write; it states the system's error as text only."""
    number = re.search(r"\(os error (\d+)\)", str(error))
    if number is None:
        return InputError(f"{path}: cannot be written: {error}")
    return cannot_write(path, OSError(int(number[1]), os.strerror(int(number[1]))))


def metadata_text(model: KMaX, path: Path, categories: list[Category], extra: Mapping[str, Any]) -> str:
    """The metadata of the file `path` of a model, for the key `KEY`.

    There is one key because the library writes several in random order, and equal models must give equal
    bytes.

    Raises:
        InputError: the categories do not fit the model.
    """
    classes = model.arguments.num_classes
    if len(categories) != classes:
        raise InputError(
            f"{path}: the model has {classes} classes, but {len(categories)} categories were given"
        )
    metadata = {
        "format": FORMAT,
        "arguments": model.arguments.as_json(),
        "categories": [category.model_dump() for category in categories],
        "extra": dict(extra),
    }
    return json.dumps(metadata, allow_nan=False)


def load_model(path: Path) -> tuple[KMaX, ModelMetadata]:
    """Build the model that `path` describes, with its weights, in evaluation mode on the CPU.

    Raises:
        InputError: the file is missing, corrupt, inconsistent, or not a kmax model.
    """
    metadata = read_metadata(path)
    try:
        model = build_shapes(metadata.arguments)
    except InputError as error:
        raise InputError([f"{path}: {fault}" for fault in error.faults]) from error
    _check_shapes(path, _header_shapes(path), model.state_dict())
    model.to_empty(device="cpu")
    model.load_state_dict(_read_tensors(path))
    return model.eval(), metadata


def load_weights(model: KMaX, path: Path) -> None:
    """Load the tensors of `path` into `model`: all, or those of the pixel encoder if there are no others.

    Raises:
        InputError: the file is missing or corrupt, its metadata name another model or flavour, or its
            tensors do not fit.
    """
    shapes = _header_shapes(path)
    state = model.state_dict()
    if shapes and all(name.startswith(ENCODER) for name in shapes):
        state = {name: tensor for name, tensor in state.items() if name.startswith(ENCODER)}
    elif not shapes.keys() & state.keys():
        raise InputError(f"{path}: none of its {len(shapes)} tensors belongs to a kmax model; {PORT_FIRST}")
    else:
        _check_arguments(path, model)
    _check_shapes(path, shapes, state)
    model.load_state_dict(_read_tensors(path), strict=False)


def _check_arguments(path: Path, model: KMaX) -> None:
    """Raise InputError if a file's metadata name another network; its tensor shapes may still agree."""
    with _open(path) as stream:
        if KEY not in (stream.metadata() or {}):
            return
    found = read_metadata(path).arguments
    wrong = [key for key in FIXED if getattr(found, key) != getattr(model.arguments, key)]
    if wrong:
        theirs, ours = (
            ", ".join(f"{key}={getattr(arguments, key)!r}" for key in wrong)
            for arguments in (found, model.arguments)
        )
        raise InputError(f"{path}: weights of a model with {theirs}, but this one has {ours}")


def read_metadata(path: Path) -> ModelMetadata:
    """The metadata alone, without the weights.

    Raises:
        InputError: the file is missing, corrupt or not a kmax model.
    """
    with _open(path) as stream:
        return parse_metadata(stream.metadata() or {}, path)


def parse_metadata(raw: Mapping[str, str], path: Path) -> ModelMetadata:
    """The model's metadata among all metadata of the file at `path`.

    Raises:
        InputError: the file is corrupt, or not a model file of this project.
    """
    if KEY not in raw:
        raise InputError(f"{path}: not a kmax model: the metadata have no model arguments; {PORT_FIRST}")
    try:
        found = _Metadata.model_validate_json(raw[KEY])
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "JSON"
        raise InputError(
            f"{path}: metadata are corrupt or from another version: {key}: {first['msg']}"
        ) from error
    classes, categories = found.arguments.num_classes, len(found.categories)
    if categories != classes:
        raise InputError(f"{path}: inconsistent metadata: {classes} classes, {categories} categories")
    return ModelMetadata(found.arguments, found.categories, found.extra)


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except FileNotFoundError:
        raise InputError(missing(path, "weights")) from None
    except (SafetensorError, OSError) as error:
        if Path(path).is_dir():
            raise InputError(f"{path}: is a folder, not a safetensors file") from None
        kind = file_kind(path)
        if kind is not None and kind.name in (PICKLE, TORCH, INDEX):
            raise InputError(
                f"{path}: not a safetensors file, but {kind.description}; {PORT_FIRST}"
            ) from error
        if kind is not None and kind.name != SAFETENSORS:
            raise InputError(f"{path}: not a readable safetensors file: {kind.description}") from error
        if Path(path).suffix != ".safetensors":
            raise InputError(f"{path}: not a safetensors file; {PORT_FIRST}") from error
        raise InputError(f"{path}: not a readable safetensors file: {error}") from error


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
    faults += [f"{path}: unexpected tensor '{name}'" for name in shapes if name not in state]
    for name in state.keys() & shapes.keys():
        shape, dtype = shapes[name]
        expected = tuple(state[name].shape)
        if shape != expected:
            faults.append(f"{path}: tensor '{name}' has shape {list(shape)}, expected {list(expected)}")
        elif dtype != "F32":
            faults.append(f"{path}: tensor '{name}' has type {dtype}, expected F32")
    if faults:
        raise InputError(sorted(faults))
