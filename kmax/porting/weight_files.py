"""`kmax weights fetch`: checkpoints listed in `params/weights.yaml`, by local path or URL.

Whatever comes in is checked against its sha256 before it is opened, and leaves as safetensors with the names
that it came with; ImageNet weights leave with the names of the pixel encoder that they are for.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kmax import paths
from kmax.config import Sha256, Weights, WeightsFile
from kmax.errors import InputError, unknown_name
from kmax.fetch import download
from kmax.model.tensor_file import Head, write_tensors
from kmax.parameter_files import load
from kmax.porting.archive import unpack_checkpoint
from kmax.porting.convert import convert_tensor
from kmax.porting.digest import sha256_of
from kmax.porting.imagenet import find_encoder
from kmax.porting.skipped import skipped_tf
from kmax.porting.source_checkpoint import TYPES, Checkpoint, Kind, open_checkpoint, read_metadata
from kmax.porting.tensorflow import find_prefix
from kmax.porting.tensorflow.locate import single_index
from kmax.runs.weight_digests import Recorded, RecordedFile, expected_sha256, source_of

KINDS: dict[str, Kind] = {"tensorflow": "tf", "torch": "torch", "safetensors": "safetensors"}
ARCHIVES = (".tar", ".tar.gz", ".tgz")
LEFT_OUT = "left_out"
MAX_BYTES = 16 * 2**30  # no checkpoint has more


@dataclass(frozen=True)
class Source:
    """A checkpoint at hand: its digest, and where to open it."""

    sha256: str
    path: Path


def weights_entry(name: str) -> Weights:
    """The entry of `params/weights.yaml`.

    Raises:
        InputError: no such entry (with the nearest name), or the file is wrong.
    """
    entries = load(WeightsFile, paths.WEIGHTS_FILE).weights
    if name not in entries:
        raise unknown_name("weights", name, entries, str(paths.WEIGHTS_FILE))
    return entries[name]


def fetch_weights(name: str) -> Path:
    """Bring `data/weights/<name>.safetensors` into being; nothing is done where it is there already.

    Where the entry states no sha256, that of the first fetch is recorded in `params/weights.recorded.json`,
    and checked from then on.

    Returns:
        Its path. The metadata say source, sha256 of the source and format, and which tensors were left out.

    Raises:
        InputError: unknown name, source not reachable, wrong sha256, damaged file.
    """
    entry = weights_entry(name)
    out = paths.weights(name)
    expected = expected_sha256(name, entry)
    if expected is not None and out.is_file():
        metadata = read_metadata(out)
        if metadata.get("sha256") == expected and metadata.get("encoder") == entry.encoder:
            return out
    with _source(entry, out, expected, name) as source:
        checkpoint = open_checkpoint(source.path, KINDS[entry.format])
        inherited = read_metadata(source.path) if entry.format == "safetensors" else {}
        metadata = inherited | {
            "source": source_of(entry),
            "sha256": source.sha256,
            "format": entry.format,
            # `kmax` is what a model says about itself
            "kmax_version": importlib.metadata.version("kmax-deeplab"),
        }
        if entry.encoder is None:
            _write_as_it_is(checkpoint, out, metadata)
        else:
            _write_encoder(checkpoint, out, metadata | {"encoder": entry.encoder}, entry.encoder)
    if entry.sha256 is None:
        RecordedFile().add(name, Recorded(source=source_of(entry), sha256=source.sha256))
    return out


def left_out(path: Path) -> dict[str, str]:
    """Tensors that were no weights and are not in a fetched file, with the reason."""
    text = read_metadata(path).get(LEFT_OUT, "{}")
    try:
        return {str(name): str(reason) for name, reason in json.loads(text).items()}
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path}: its metadata are damaged; remove it and fetch it again") from error


def _write_as_it_is(checkpoint: Checkpoint, out: Path, metadata: dict[str, str]) -> None:
    """All tensors but those that are no weights, with their names and types (bfloat16 as float32)."""
    heads, skipped = [], {}
    for name in checkpoint:
        shape, kind = checkpoint.describe(name)
        reason = skipped_tf(name) or ("not of numbers" if kind not in TYPES.values() else None)
        if reason is None:
            heads.append(Head(name, getattr(torch, "float32" if kind == "bfloat16" else kind), shape))
        else:
            skipped[name] = reason
    if skipped:
        metadata = metadata | {LEFT_OUT: json.dumps(skipped, sort_keys=True)}
    write_tensors(out, heads, metadata, lambda name: convert_tensor(checkpoint[name]))


def _write_encoder(checkpoint: Checkpoint, out: Path, metadata: dict[str, str], model: str) -> None:
    """The tensors of the model's pixel encoder, with its names."""
    encoder = find_encoder(checkpoint, model)
    encoder.account.require_complete(f"{checkpoint.path}: pixel encoder of {model}")
    by_target = {entry.target: entry for entry in encoder.entries}

    def content(name: str) -> torch.Tensor:
        entry = by_target[name]
        sources = (convert_tensor(np.asarray(checkpoint[source], np.float32)) for source in entry.sources)
        tensor: torch.Tensor = entry.convert(*sources)
        return tensor

    heads = [Head(name, torch.float32, shape) for name, shape in encoder.shapes.items()]
    skipped = {line.name: line.reason for line in encoder.account.lines.values() if line.fate == "skipped"}
    write_tensors(out, heads, metadata | {LEFT_OUT: json.dumps(skipped, sort_keys=True)}, content)


@contextlib.contextmanager
def _source(entry: Weights, out: Path, expected: Sha256 | None, name: str) -> Iterator[Source]:
    """The checkpoint, fetched, checked and unpacked; what was fetched is removed after use."""
    where = source_of(entry)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as text:
        folder = Path(text)
        if entry.url is not None:
            path = folder / "checkpoint"
            download(entry.url, path, max_bytes=MAX_BYTES)
        else:
            path = Path(str(entry.path)).expanduser()
        packed = entry.format == "tensorflow" and (entry.url is not None or path.name.endswith(ARCHIVES))
        bundle = entry.format == "tensorflow" and not packed
        if bundle:
            path = find_prefix(path)
        elif not path.is_file():
            raise InputError(
                f"{path}: not found (named in {paths.WEIGHTS_FILE}, relative to the project folder)"
            )
        sha256 = sha256_of(open_checkpoint(path, "tf").digested() if bundle else [path])
        if expected not in (None, sha256):
            said = paths.WEIGHTS_FILE if entry.sha256 else RecordedFile().path
            raise InputError(
                f"{where}: sha256 is {sha256}, but {said} says {expected}"
                f" for '{name}': the file is damaged, or another version; nothing was kept"
            )
        if packed:
            (folder / "unpacked").mkdir()
            unpack_checkpoint(path, folder / "unpacked", where)
            path = single_index(folder / "unpacked")
        yield Source(sha256, path)
