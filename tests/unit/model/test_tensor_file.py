"""Tensor files: the same bytes whatever the order, on any file system, and none where something fails."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from kmax.errors import InputError
from kmax.model import tensor_file
from kmax.model.tensor_file import Head, write_tensors

TENSORS = {
    "transposed": torch.arange(35.0).view(5, 7).t(),
    "with sides of 1": torch.arange(12.0).view(3, 1, 4).transpose(0, 2),
    "expanded": torch.arange(3.0).expand(4, 3),
    "empty": torch.empty(0, 4),
    "number": torch.tensor(7),
    "truth": torch.tensor(True),
    "bfloat16": torch.arange(6.0).bfloat16(),
    "bytes": torch.arange(5, dtype=torch.uint8),
}
HEADS = [Head(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in TENSORS.items()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def write(path: Path, heads: list[Head] = HEADS) -> bytes:
    write_tensors(path, heads, {"about": "tensors"}, TENSORS.__getitem__)
    return path.read_bytes()


@pytest.mark.parametrize("batch", [1, 40, 2**20])  # bytes: each tensor alone, some together, all at once
def test_any_strides_and_types_are_read_back_and_order_does_not_matter(
    batch: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_file, "BATCH", batch)
    content = write(path)
    for name, tensor in load_file(path).items():
        assert torch.equal(tensor, TENSORS[name]), name
    assert write(path, HEADS[::-1]) == content


@pytest.mark.parametrize("refusal", [errno.EINVAL, errno.EOPNOTSUPP])
def test_file_systems_that_cannot_reserve_get_the_same_file(
    refusal: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = write(path)
    monkeypatch.setattr(os, "posix_fallocate", refuse(refusal))
    monkeypatch.setattr(os, "pwrite", in_parts(os.pwrite))
    assert write(path) == content


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite", "fsync"])
def test_a_full_disk_gives_a_one_line_error_and_keeps_the_old_file(
    call: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(b"former")
    monkeypatch.setattr(os, call, refuse(errno.ENOSPC))
    with pytest.raises(InputError, match="cannot be written: the disk is full"):
        write(path)
    assert path.read_bytes() == b"former"
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "damaged"),
        (torch.zeros(2), r"t00007: torch.float32 \[2\] does not match the header"),
        (torch.zeros(3).double(), r"t00007: torch.float64 \[3\] does not match the header"),
    ],
    ids=["fault", "shape", "type"],
)
def test_one_tensor_that_fails_stops_all(
    given: Tensor | None, expected: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_file, "BATCH", 1)
    asked = []

    def content(name: str) -> Tensor:
        asked.append(name)
        if name != "t00007":
            return torch.zeros(3)
        if given is None:
            raise InputError("damaged")
        return given

    heads = [Head(f"t{number:05d}", torch.float32, (3,)) for number in range(20000)]
    with pytest.raises((InputError, ValueError), match=expected):
        write_tensors(path, heads, {}, content)
    assert os.listdir(path.parent) == []
    assert "t00007" in asked
    assert len(asked) < len(heads)


def refuse(number: int) -> Any:
    def call(*arguments: Any) -> None:
        raise OSError(number, os.strerror(number))

    return call


def in_parts(pwrite: Any) -> Any:
    """As the system may do: fewer bytes than asked for."""
    return lambda file, content, place: pwrite(file, content[:7], place)
