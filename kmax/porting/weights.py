"""`kmax weights fetch`: checkpoints listed in `params/weights.yaml`, by local path or URL.

Whatever comes in is checked against its sha256 before it is opened, and leaves as safetensors.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.metadata
import json
import tempfile
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn
from safetensors.torch import save

from kmax import files, paths
from kmax.config import Weights, WeightsFile
from kmax.errors import InputError, unknown_name
from kmax.fetch import open_url
from kmax.parameter_files import load
from kmax.porting.checkpoint import TENSORFLOW_LINE, read_metadata, read_tensors, refuse_tensorflow

MAX_BYTES = 16 * 2**30
BLOCK = 2**20


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

    Returns:
        Its path. The metadata says source, sha256 of the source and format.

    Raises:
        InputError: unknown name, source not reachable, wrong sha256, damaged file, TensorFlow bundle.
    """
    entry = weights_entry(name)
    out = paths.weights(name)
    if entry.format == "tensorflow":
        raise InputError(f"{paths.WEIGHTS_FILE}: weights.{name}: {TENSORFLOW_LINE}")
    if out.is_file() and read_metadata(out).get("sha256") == entry.sha256:
        return out
    with _source_file(entry, out) as source:
        found = files.sha256(source)
        if found != entry.sha256:
            raise InputError(
                f"{_where(entry)}: sha256 is {found}, but {paths.WEIGHTS_FILE} says {entry.sha256}"
                f" for '{name}': the file is damaged, or another version; nothing was kept"
            )
        tensors = read_tensors(source, entry.format)
        inherited = read_metadata(source) if entry.format == "safetensors" else {}
    metadata = inherited | {
        "source": _where(entry),
        "sha256": entry.sha256,
        "format": entry.format,
        "kmax_version": importlib.metadata.version("kmax"),  # `kmax` holds what a model says about itself
    }
    contiguous = {key: tensor.contiguous().clone() for key, tensor in tensors.items()}
    files.write_bytes(out, _ordered(save(contiguous, metadata=metadata)))
    return out


def _ordered(content: bytes) -> bytes:
    """A safetensors file with its metadata sorted: the library's order is random, DVC wants equal bytes."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]


def _where(entry: Weights) -> str:
    return str(entry.url or entry.path)


@contextlib.contextmanager
def _source_file(entry: Weights, out: Path) -> Iterator[Path]:
    """The source as a local file; a download is removed after use."""
    if entry.path is not None:
        path = Path(entry.path).expanduser()
        refuse_tensorflow(path)
        if not path.is_file():
            raise InputError(
                f"{path}: not found (named in {paths.WEIGHTS_FILE}, relative to the project folder)"
            )
        yield path
        return
    assert entry.url is not None  # the parameter model wants one of the two
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        downloaded = Path(folder) / "checkpoint"
        _download(entry.url, downloaded)
        yield downloaded


def _download(url: str, path: Path) -> None:
    """Fetch `url` into `path`, with progress on stderr.

    Raises:
        InputError: not http(s), not reachable, cut short, or more than 16 GiB.
    """
    try:
        with open_url(url) as response, open(path, "wb") as target:
            length = response.headers.get("Content-Length")
            _copy(response, target, int(length) if length else None, url)
    except urllib.error.HTTPError as error:
        raise InputError(f"{url}: the server answered {error.code} {error.reason}") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise InputError(f"{url}: cannot be fetched: {reason}; call again") from error
    except ValueError as error:
        raise InputError(f"{url}: cannot be fetched: {error}") from error


def _copy(response: BinaryIO, target: BinaryIO, length: int | None, url: str) -> None:
    from rich.console import Console

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    done = 0
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(url.rsplit("/", 1)[-1], total=length)
        while block := response.read(BLOCK):
            done += len(block)
            if done > MAX_BYTES:
                raise InputError(f"{url}: more than {MAX_BYTES} bytes, which no checkpoint has")
            target.write(block)
            progress.update(task, completed=done)
    if length is not None and done != length:
        raise InputError(f"{url}: ended after {done} of {length} bytes; call again")
