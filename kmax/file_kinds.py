"""What a file is, from its first bytes: for messages where a file of another kind is expected.

Large files are often replaced by something small: a pointer of git-lfs, DVC or git-annex, or the web page or
error message that a server sent instead. Nothing is unpacked, and at most a few kilobytes are read.
"""

from __future__ import annotations

import html
import json
import os
import re
import zipfile
from pathlib import Path
from typing import NamedTuple

from kmax.display import one_line

HEAD = 8192  # bytes read
MAX_HEADER = 100_000_000  # bytes of a safetensors header that the library reads
MAX_PARSED_HEADER = 2**24  # bytes of one that is read here
ZIP_DIRECTORY = 2**22  # bytes; larger directories of zip files are not listed

PICKLE, TORCH, SAFETENSORS, INDEX, TEXT = "pickle", "torch", "safetensors", "index", "text"
# Beginnings of binary formats, by (offset, bytes).
MAGIC: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\x1f\x8b", "gzip", "a gzip archive; unpack it first"),
    (0, b"\xfd7zXZ\x00", "xz", "an xz archive; unpack it first"),
    (0, b"BZh", "bzip2", "a bzip2 archive; unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "zstd", "a Zstandard archive; unpack it first"),
    (0, b"\x04\x22\x4d\x18", "lz4", "an LZ4 archive; unpack it first"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z", "a 7z archive; unpack it first"),
    (0, b"Rar!\x1a\x07", "rar", "a RAR archive; unpack it first"),
    (257, b"ustar", "tar", "a tar archive; unpack it first"),
    (0, b"\x89HDF\r\n\x1a\n", "hdf5", "an HDF5 file, as Keras writes"),
    (0, b"\x93NUMPY", "npy", "a NumPy array (.npy)"),
    (0, b"GGUF", "gguf", "a GGUF file"),
    (4, b"TFL3", "tflite", "a TensorFlow Lite model"),
    (0, b"\x89PNG\r\n\x1a\n", "png", "a PNG picture"),
    (0, b"\xff\xd8\xff", "jpeg", "a JPEG picture"),
    (0, b"%PDF-", "pdf", "a PDF document"),
    (0, b"\x7fELF", "elf", "a program (ELF)"),
    (0, b"SQLite format 3\x00", "sqlite", "an SQLite database"),
)
BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
PAGE = re.compile(
    r"(?:<\?xml[^>]*>|<!--.*?-->|\s)*<(?:!doctype\s+html|html|head|body|title|meta|script|style)\b",
    re.IGNORECASE | re.DOTALL,
)
TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
LFS = re.compile(r"version https?://(?:git-lfs\.github\.com|hawser\.github\.com|git-media\.io)/\S*")
ANNEX = re.compile(r"\s*(?:\S*[/\\])?(?:\.git[/\\])?annex[/\\]objects[/\\]\S+\s*")
DVC = re.compile(r"(?:outs|md5|wdir|meta|frozen|deps):.*\bmd5:\s*[0-9a-f]{32}", re.DOTALL)
# Keys of the JSON messages of servers.
JSON_ERROR = ("error", "errors", "message", "detail", "Error", "error_description")


class FileKind(NamedTuple):
    """A kind of file: its short name, and a description for messages."""

    name: str
    description: str


def instead_of(path: Path, *expected: str) -> str | None:
    """Describe a file of another kind than expected; None if it is of an expected or of no known kind.

    Args:
        path: an existing file or folder.
        expected: names of the kinds that the caller reads.
    """
    kind = file_kind(path)
    return None if kind is None or kind.name in expected else kind.description


def file_kind(path: Path) -> FileKind | None:
    """The kind of a file; None if it is unknown or cannot be read."""
    try:
        if os.path.isdir(path):
            return FileKind("folder", "a folder")
        if not os.path.isfile(path):
            return None
        size = os.path.getsize(path)
        with open(path, "rb") as stream:
            head = stream.read(HEAD)
    except OSError:
        return None
    if not head:
        return FileKind("empty", "an empty file")
    return _binary(path, head, size) or _text(head)


def _binary(path: Path, head: bytes, size: int) -> FileKind | None:
    if not head.strip(b"\x00"):
        return FileKind("zeros", f"zeros only in its first {len(head)} bytes, as in an unfinished download")
    if (kind := _safetensors(path, head, size)) is not None:
        return kind
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip(path)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return FileKind(PICKLE, "a pickle, as older versions of torch write")
    found = (entry for entry in MAGIC if head[entry[0] : entry[0] + len(entry[1])] == entry[1])
    return next((FileKind(name, description) for _, _, name, description in found), None)


def missing(path: Path, what: str) -> str:
    """The message for a path where nothing is; `what` names the file's role."""
    if not os.path.islink(path):
        return f"{path}: {what} not found"
    target = os.readlink(path)
    advice = "; run: git annex get" if "annex/objects" in target else ""
    return f"{path}: {what} not found: a link to {target}, which does not exist{advice}"


def _safetensors(path: Path, head: bytes, size: int) -> FileKind | None:
    """A safetensors file: 8 bytes with the length of the header, the header as JSON, the tensors."""
    length = int.from_bytes(head[:8], "little")
    if len(head) < 9 or head[8:9] != b"{" or not 2 <= length <= MAX_HEADER:
        return None
    expected = length + 8
    if length <= min(size, MAX_PARSED_HEADER):
        expected += _content_bytes(path, length)
    if expected > size:
        words = f"truncated: it has {size} of {expected} bytes{' or more' if length + 8 > size else ''}"
        return FileKind("truncated", f"{words}; download it again")
    return FileKind(SAFETENSORS, "a safetensors file")


def _content_bytes(path: Path, length: int) -> int:
    """The bytes of all tensors, as the header says; 0 if it is not readable."""
    try:
        with open(path, "rb") as stream:
            stream.seek(8)
            header = json.loads(stream.read(length))
        ends = (head["data_offsets"][1] for name, head in header.items() if name != "__metadata__")
        return max(ends, default=0)
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return 0


def _zip(path: Path) -> FileKind:
    try:
        names = _zip_names(path)
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return FileKind("truncated", "truncated zip file: its end is missing")
    if any(name.endswith("/constants.pkl") for name in names) and any("/code/" in name for name in names):
        return FileKind("torchscript", "a TorchScript program; save the model's state_dict() instead")
    if any(name.split("/")[1:] == ["data.pkl"] for name in names):
        return FileKind(TORCH, "a torch.save file")
    if names and all(name.endswith(".npy") for name in names):
        return FileKind("npz", "NumPy arrays (.npz)")
    first = f" (its first file: {one_line(names[0])})" if names else ""
    return FileKind("zip", f"a zip archive{first}; unpack it first")


def _zip_names(path: Path) -> list[str]:
    with open(path, "rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 22 - 0xFFFF))
        tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0:
        raise zipfile.BadZipFile
    if int.from_bytes(tail[at + 12 : at + 16], "little") > ZIP_DIRECTORY:
        return []
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def _text(head: bytes) -> FileKind | None:
    text = _decoded(head)
    if text is None:
        return None
    start = text.lstrip()
    if LFS.match(start):
        stated = re.search(r"^size (\d+)", start, re.MULTILINE)
        of = f" to a file of {stated[1]} bytes" if stated else ""
        return FileKind("git-lfs", f"a git-lfs pointer{of}, not the file itself; run: git lfs pull")
    if ANNEX.fullmatch(text):
        return FileKind("git-annex", "a git-annex pointer, not the file itself; run: git annex get")
    if DVC.match(start):
        return FileKind("dvc", "a DVC pointer, not the file itself; run: dvc pull")
    if PAGE.match(start):
        title = TITLE.search(start)
        named = f" titled '{one_line(html.unescape(title[1]))}'" if title and title[1].strip() else ""
        return FileKind("web page", f"a web page{named}; download the file itself")
    if start.startswith("<"):
        return _xml(start)
    if start.startswith(("{", "[")):
        return _json(start)
    return FileKind(TEXT, f"a text that begins with '{one_line(start)}'" if start else "a blank text")


def _decoded(head: bytes) -> str | None:
    """The beginning of a text; None if the bytes are not text."""
    encoding = next((name for bom, name in BOMS if head.startswith(bom)), "utf-8")
    try:
        text = head.decode(encoding, "ignore" if len(head) == HEAD else "strict")
    except UnicodeDecodeError:
        text = head.decode("latin-1") if head.lstrip()[:1] == b"<" else "\x00"
    return None if any(not (one.isprintable() or one.isspace()) for one in text) else text


def _xml(text: str) -> FileKind:
    code = re.search(r"<Code>([^<]*)</Code>", text)
    message = re.search(r"<Message>([^<]*)</Message>", text)
    if code or message:
        words = ": ".join(one_line(found[1]) for found in (code, message) if found)
        return FileKind("xml", f"an error message of a server ({words}); download the file again")
    return FileKind("xml", "an XML document")


def _json(text: str) -> FileKind:
    if '"weight_map"' in text:
        return FileKind(INDEX, "the JSON index of a checkpoint in several files")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict) and (keys := [key for key in JSON_ERROR if key in found]):
        words = one_line(json.dumps(found[keys[0]], ensure_ascii=False))
        return FileKind("json", f"an error message of a server ({keys[0]}: {words})")
    return FileKind("json", f"a JSON text that begins with '{one_line(text)}'")
