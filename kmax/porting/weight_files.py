"""`kmax weights fetch`: checkpoints listed in `params/weights.yaml`, by local path or URL.

A checkpoint is checked against its SHA-256 before it is opened, and becomes a safetensors file with the same
names; ImageNet weights get the names of the pixel encoder that they are for.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kmax import files, paths
from kmax.config import Sha256, Weights, WeightsFile
from kmax.errors import InputError, unknown_name
from kmax.fetch import download
from kmax.fetch.archives import Contents, unpack
from kmax.file_kinds import INDEX, PICKLE, SAFETENSORS, TORCH, instead_of, missing
from kmax.machine import kmax_version
from kmax.model.tensor_file import Head, write_tensors
from kmax.outputs import require_outputs
from kmax.parameter_files import load
from kmax.porting.convert import convert_tensor, sha256_of
from kmax.porting.formats import Checkpoint, open_checkpoint
from kmax.porting.formats.safetensors_format import TYPES, read_metadata
from kmax.porting.imagenet import find_encoder
from kmax.porting.tensorflow.locate import find_prefix, single_index
from kmax.porting.tensorflow_names import skipped_tf
from kmax.runs.weight_digests import Recorded, RecordedFile, expected_sha256, source_of
from kmax.urls import has_credentials

# Kinds of files that may hold a checkpoint; those of TensorFlow come in archives.
READABLE = (PICKLE, TORCH, SAFETENSORS, INDEX, "gzip", "tar", "xz", "bzip2", "zip")
ARCHIVES = (".tar", ".tar.gz", ".tgz")
CHECKPOINT_FILES = re.compile(r"[^/\\\x00]{1,200}\.(index|data-\d{5}-of-\d{5})")
LEFT_OUT = "left_out"
MAX_BYTES = 16 * 2**30  # no checkpoint is larger
DOWNLOADS = ".downloads"  # folder of incomplete downloads, beside the weights


@dataclass(frozen=True)
class FetchedCheckpoint:
    """A checkpoint on this machine: the digest of the source, and the path to open."""

    sha256: str
    path: Path


def weights_entry(name: str) -> Weights:
    """The entry of `params/weights.yaml`.

    Raises:
        InputError: no such entry (with the nearest name), or the file is invalid.
    """
    entries = load(WeightsFile, paths.WEIGHTS_FILE).weights
    if name not in entries:
        raise unknown_name("weights", name, entries, str(paths.WEIGHTS_FILE))
    return entries[name]


def fetch_weights(name: str, overwrite: bool = False) -> Path:
    """Create `data/weights/<name>.safetensors`, unless it is up to date.

    An interrupted download is continued by the next call. If the entry states no sha256, that of the first
    fetch is recorded in `params/weights.recorded.json`, and checked from then on.

    Args:
        name: of an entry.
        overwrite: also replace a file that this function did not write.

    Returns:
        Its path. The metadata contain source, sha256 of the source and format, and which tensors were
        skipped.

    Raises:
        InputError: unknown name, source not reachable, wrong SHA-256, corrupt file, or the output would
            replace the source or a file of the user.
    """
    entry = weights_entry(name)
    out = paths.weights(name)
    expected = expected_sha256(name, entry)
    require_outputs({out: _is_fetched}, [Path(entry.path).expanduser()] if entry.path else [], overwrite)
    if expected is not None and out.is_file():
        metadata = read_metadata(out)
        wanted = {"sha256": expected, "encoder": entry.encoder, "state_dict": entry.state_dict}
        same = all(metadata.get(key) == value for key, value in wanted.items())
        # Earlier releases wrote the source with its credentials.
        if same and not has_credentials(metadata.get("source", "")):
            return out
    with _fetched(entry, out, expected, name) as source:
        checkpoint = _opened(source.path, entry)
        for note in checkpoint.notes:
            print(f"warning: {note}", file=sys.stderr)
        metadata = {
            **checkpoint.metadata,
            "source": source_of(entry),
            "sha256": source.sha256,
            "format": entry.format,
            "kmax_version": kmax_version(),  # `kmax` is a model's own metadata
        }
        if entry.state_dict is not None:
            metadata["state_dict"] = entry.state_dict
        if entry.encoder is None:
            _write_unchanged(checkpoint, out, metadata)
        else:
            _write_encoder(checkpoint, out, metadata | {"encoder": entry.encoder}, entry.encoder)
    if entry.sha256 is None:
        RecordedFile().add(name, Recorded(source=source_of(entry), sha256=source.sha256))
    return out


def _opened(path: Path, entry: Weights) -> Checkpoint:
    """The checkpoint; faults of a downloaded file name its URL, since the file does not stay."""
    try:
        return open_checkpoint(path, entry.format, entry.state_dict)
    except InputError as error:
        if entry.url is None:
            raise
        where = source_of(entry)
        raise InputError([fault.replace(str(path), where) for fault in error.faults]) from error


def _is_fetched(path: Path) -> bool:
    try:
        return read_metadata(path).keys() >= {"source", "sha256", "format"}
    except InputError:
        return False


def left_out(checkpoint: Checkpoint) -> dict[str, str]:
    """Tensors that were skipped when the checkpoint was fetched, with the reasons.

    Raises:
        InputError: corrupt metadata.
    """
    try:
        found = json.loads(checkpoint.metadata.get(LEFT_OUT, "{}"))
        return {str(name): str(reason) for name, reason in found.items()}
    except (ValueError, AttributeError) as error:
        raise InputError(
            f"{checkpoint.path}: corrupt metadata; remove the file and fetch it again"
        ) from error


def _write_unchanged(checkpoint: Checkpoint, out: Path, metadata: dict[str, str]) -> None:
    """All tensors that may be weights, with their names and types (bfloat16 as float32)."""
    heads, skipped = [], dict(checkpoint.ignored)
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
    lines = encoder.account.lines.values()
    skipped = {**checkpoint.ignored, **{line.name: line.reason for line in lines if line.status == "skipped"}}
    write_tensors(out, heads, metadata | {LEFT_OUT: json.dumps(skipped, sort_keys=True)}, content)


@contextlib.contextmanager
def _fetched(entry: Weights, out: Path, expected: Sha256 | None, name: str) -> Iterator[FetchedCheckpoint]:
    """The checkpoint, downloaded, verified and unpacked; downloads are removed after use."""
    where = source_of(entry)
    out.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        if entry.url is not None:
            path = stack.enter_context(_downloaded(entry.url, out.parent / DOWNLOADS, name))
        else:
            path = Path(str(entry.path)).expanduser()
        packed = entry.format == "tf" and (entry.url is not None or path.name.endswith(ARCHIVES))
        bundle = entry.format == "tf" and not packed
        if bundle:
            path = find_prefix(path)
        elif path.is_dir():
            raise InputError(f"{path}: is a folder; {paths.WEIGHTS_FILE} must name a file")
        elif not path.is_file():
            where_stated = f"(named in {paths.WEIGHTS_FILE}, relative to the project folder)"
            raise InputError(f"{missing(path, 'checkpoint')} {where_stated}")
        sha256 = sha256_of(open_checkpoint(path, "tf").digested() if bundle else [path])
        instead = None if bundle else instead_of(path, *READABLE)
        if expected not in (None, sha256):
            stated = paths.WEIGHTS_FILE if entry.sha256 else RecordedFile().path
            raise InputError(
                f"{where}: SHA-256 is {sha256}, but {stated} expects {expected}"
                f" for '{name}': {instead or 'the file is corrupt or another version'}"
                + ("; it was discarded" if entry.url is not None else "")
            )
        if instead is not None:
            raise InputError(f"{where}: not a checkpoint, but {instead}")
        if packed:
            text = stack.enter_context(tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent))
            path = _unpacked(path, Path(text))
        yield FetchedCheckpoint(sha256, path)


@contextlib.contextmanager
def _downloaded(url: str, folder: Path, name: str) -> Iterator[Path]:
    """The file at a URL. Only an incomplete download is kept, for the next call to continue.

    Raises:
        InputError: it cannot be downloaded, or another process is downloading it.
    """
    path, lock = folder / name, folder / f"{name}.lock"
    held = f"{path}: another process is downloading '{name}'; wait for it to finish"
    try:
        with files.exclusive_lock(lock, held):
            try:
                download(url, path, max_bytes=MAX_BYTES)
                yield path
            finally:
                path.unlink(missing_ok=True)
                lock.unlink(missing_ok=True)
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # unless something is left in it


def _unpacked(archive: Path, folder: Path) -> Path:
    """The prefix of the checkpoint in a tar archive, whose other files are not unpacked."""
    target = folder / "unpacked"
    target.mkdir()
    unpack(archive, target, folder / "work", Contents(files=CHECKPOINT_FILES))
    return single_index(target)
