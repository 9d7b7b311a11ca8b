"""A file that is not what it should be is called what it is, by every reader of weights."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from kmax.errors import InputError
from kmax.file_kinds import SAFETENSORS, TORCH, file_kind, instead_of, missing
from kmax.model.create import create_model
from kmax.model.io import load_model, load_weights, read_metadata
from kmax.porting.formats import open_checkpoint
from kmax.porting.recorded import read_recording

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
WEIGHTS = save({"a": torch.ones(300)})


def zipped(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def tarred() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("w.pth"))
    return stream.getvalue()


def arrays() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=np.ones(2))
    return stream.getvalue()


FOREIGN = {
    "lfs": (LFS, "a git-lfs pointer to a file of 12345 bytes, not the file itself; run: git lfs pull"),
    "lfs-windows": (b"\xef\xbb\xbf" + LFS.replace(b"\n", b"\r\n"), "a git-lfs pointer to a file of 12345"),
    "lfs-old": (b"version https://hawser.github.com/spec/v1\noid", "a git-lfs pointer, not"),
    "annex": (b"/annex/objects/SHA256E-s12--ab.safetensors\n", "a git-annex pointer"),
    "annex-link": (b"../.git/annex/objects/Xx/k1/SHA256E-s1--a/SHA256E-s1--a", "a git-annex pointer"),
    "dvc": (b"outs:\n- md5: d41d8cd98f00b204e9800998ecf8427e\n  path: w\n", "a DVC pointer"),
    "page": (b"<!DOCTYPE html><html><title>Sign in &amp; go</title>", "a web page titled 'Sign in & go'"),
    "page-bom": (b"\xef\xbb\xbf\n\n <!DocType HTML PUBLIC '-//W3C'>\n<HTML>", "a web page"),
    "page-bare": (b"\r\n<!-- made by hand -->\n<html lang=en>", "a web page"),
    "page-xhtml": (b"<?xml version='1.0'?>\n<!DOCTYPE html>", "a web page"),
    "page-latin-1": (b"<html><p>caf\xe9</p>", "a web page"),
    "page-utf-16": ("<!doctype html><html>".encode("utf-16"), "a web page"),
    "s3": (
        b"<?xml version='1.0'?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>",
        "an error message of a server (AccessDenied: Access Denied)",
    ),
    "xml": (b"<?xml version='1.0'?><a/>", "an XML document"),
    "api": (b'{"error": "Repository not found"}', 'an error message of a server (error: "Repository not'),
    "json": (b"[1, 2]", "a JSON text that begins with '[1, 2]'"),
    "empty": (b"", "an empty file"),
    "blank": (b" \n\n", "a blank text"),
    "text": (b"Not\nFound\x0a", "a text that begins with 'Not Found'"),
    "zeros": (bytes(20_000), "zeros only in its first 8192 bytes"),
    "gzip": (gzip.compress(WEIGHTS), "a gzip archive; unpack it first"),
    "tar": (tarred(), "a tar archive; unpack it first"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(50), "a 7z archive; unpack it first"),
    "zip": (zipped("w.pth", b"x"), "a zip archive (its first file: w.pth); unpack it first"),
    "npz": (arrays(), "NumPy arrays (.npz)"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(50), "an HDF5 file"),
}
CUT = {
    "in-header": (WEIGHTS[:20], "truncated: it has 20 of "),
    "in-tensors": (WEIGHTS[:-100], f"truncated: it has {len(WEIGHTS) - 100} of {len(WEIGHTS)} bytes"),
}


@pytest.fixture(params=FOREIGN)
def foreign(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, str]:
    content, words = FOREIGN[request.param]
    (tmp_path / "w").write_bytes(content)
    return tmp_path / "w", words


def read_all(path: Path) -> dict[str, str]:
    """The message of each reader of weight files."""
    readers = {
        "load_model": lambda: load_model(path),
        "load_weights": lambda: load_weights(
            create_model("kmax_tiny", num_classes=2, image_size=(65, 65)), path
        ),
        "read_metadata": lambda: read_metadata(path),
        "torch": lambda: open_checkpoint(path, "torch"),
        "safetensors": lambda: open_checkpoint(path, "safetensors"),
        "tf": lambda: open_checkpoint(path, "tf"),
    }
    messages = {}
    for name, read in readers.items():
        with pytest.raises(InputError) as caught:
            read()
        (messages[name],) = caught.value.faults
    return messages


def test_every_reader_of_weights_says_what_a_foreign_file_is(foreign: tuple[Path, str]) -> None:
    path, words = foreign
    for reader, message in read_all(path).items():
        assert message.startswith(f"{path}: "), reader
        assert words in message, reader
        assert "\n" not in message


@pytest.mark.parametrize(("content", "words"), CUT.values(), ids=list(CUT))
def test_a_download_that_was_cut_is_called_truncated(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    assert all(words in message for message in read_all(path).values())


def test_weights_in_the_wrong_format_are_called_by_their_own(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS)
    torch.save({"a": torch.ones(2)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="is a safetensors file, but the format torch was given"):
        open_checkpoint(tmp_path / "w.bin", "torch")
    with pytest.raises(InputError, match=r"is a torch\.save file, but the format safetensors was given"):
        open_checkpoint(tmp_path / "w.pth", "safetensors")
    with pytest.raises(InputError, match=r"but a torch\.save file; convert .* with `kmax port-file`"):
        load_model(tmp_path / "w.pth")
    assert instead_of(tmp_path / "w.bin", SAFETENSORS) is instead_of(tmp_path / "w.pth", TORCH) is None


def test_a_folder_and_a_link_to_nothing_are_named(tmp_path: Path) -> None:
    for form in ("torch", "safetensors"):
        with pytest.raises(InputError, match="is a folder"):
            open_checkpoint(tmp_path, form)
    link = tmp_path / "w.pth"
    link.symlink_to(".git/annex/objects/ab")
    message = "not found: a link to .git/annex/objects/ab, which does not exist; run: git annex get"
    for read in (lambda: open_checkpoint(link, "torch"), lambda: load_model(link)):
        with pytest.raises(InputError) as caught:
            read()
        assert message in caught.value.faults[0]
    assert missing(tmp_path / "none", "weights").endswith("none: weights not found")


def test_recorded_outputs_that_are_a_pointer_are_named(tmp_path: Path) -> None:
    (tmp_path / "r.npz").write_bytes(LFS)
    with pytest.raises(InputError, match="not an NPZ file: a git-lfs pointer"):
        read_recording(tmp_path / "r.npz")


def test_random_bytes_are_of_no_kind_and_never_an_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "x"
    starts = [content for content, _ in (*FOREIGN.values(), *CUT.values())]
    for trial in range(300):
        content = bytearray(starts[trial % len(starts)][:2000] + rng.bytes(64))
        for place in rng.integers(0, len(content), 1 + trial % 9):
            content[place] = rng.integers(0, 256)
        path.write_bytes(content)
        kind = file_kind(path)
        assert kind is None or "\n" not in kind.description
