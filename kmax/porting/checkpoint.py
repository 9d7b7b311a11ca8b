"""Reading checkpoint files without running code from them."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kmax.errors import InputError

Format = Literal["safetensors", "torch"]
TENSORFLOW_LINE = "TensorFlow checkpoints are not read yet: give a safetensors file or a torch state dict"
# Wrappers that training programs put around a state dict.
WRAPPERS = ("state_dict", "model", "model_state_dict", "module")
MAX_DEPTH = 4


def refuse_tensorflow(path: Path) -> None:
    """Raise if `path` names a TensorFlow bundle: its index, a shard, or their common prefix.

    Raises:
        InputError: it does.
    """
    is_part = path.name.endswith(".index") or ".data-" in path.name
    if is_part or (not path.exists() and path.with_name(path.name + ".index").exists()):
        raise InputError(f"{path}: {TENSORFLOW_LINE}")


def read_tensors(path: Path, form: Format) -> dict[str, Tensor]:
    """All tensors of a checkpoint file, on the CPU, by name.

    Raises:
        InputError: missing, damaged, of another format, or without a state dict.
    """
    refuse_tensorflow(path)
    if not path.is_file():
        raise InputError(f"{path}: checkpoint not found")
    tensors = _read_safetensors(path) if form == "safetensors" else _read_torch(path)
    if not tensors:
        raise InputError(f"{path}: holds no tensors")
    return tensors


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty where it has none."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file: {_one_line(error)}") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable safetensors file: {_one_line(error)}") from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    """Read by torch's restricted unpickler, which builds tensors and plain containers only."""
    try:
        if zipfile.is_zipfile(path):
            _refuse_bomb(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a readable torch checkpoint: {_one_line(error)}") from error
    # A damaged pickle makes the restricted unpickler stumble in many ways; none of them is a bug of ours.
    except (
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        AssertionError,
        MemoryError,
    ) as error:
        raise InputError(f"{path}: damaged torch checkpoint ({type(error).__name__})") from error
    return _state_dict(content, path)


def _refuse_bomb(path: Path) -> None:
    """Torch stores its archive uncompressed: one that unpacks to more than its size is not torch's."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > path.stat().st_size:
        raise InputError(f"{path}: not a torch checkpoint: a compressed archive")


def _state_dict(content: Any, path: Path, depth: int = 0) -> dict[str, Tensor]:
    """Unwrap {"state_dict": ...} and the like down to a mapping of names to tensors."""
    if isinstance(content, Mapping) and depth < MAX_DEPTH:
        wrapper = next((name for name in WRAPPERS if isinstance(content.get(name), Mapping)), None)
        if wrapper is not None:
            return _state_dict(content[wrapper], path, depth + 1)
        named = {name: value for name, value in content.items() if isinstance(name, str)}
        if len(named) == len(content) and all(isinstance(value, Tensor) for value in named.values()):
            return _without_common_prefix(named)
    raise InputError(f"{path}: no state dict inside: a mapping of names to tensors is wanted")


def _without_common_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """DistributedDataParallel puts `module.` before every name, torch.compile `_orig_mod.`."""
    for prefix in ("module.", "_orig_mod."):
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
