"""Checkpoint files are read without running code from them, and corrupt files give a one-line error."""

import argparse
import importlib
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from kmax.checkpoint_formats import CheckpointFormat
from kmax.errors import InputError
from kmax.porting.formats import open_checkpoint
from kmax.porting.formats.safetensors_format import read_metadata

TENSORS = {
    "a.weight": torch.arange(6.0).reshape(2, 3),
    "b": torch.tensor([1, 2]),
    "transposed": torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1),
    "half": torch.tensor([0.5, -2.0], dtype=torch.float16),
    "scalar": torch.tensor(3.0, dtype=torch.float64),
    "flags": torch.tensor([True, False]),
    "empty": torch.zeros(0, 3),
}


def read_tensors(path: Path, form: str) -> dict[str, torch.Tensor]:
    checkpoint = open_checkpoint(path, form)
    return {name: torch.tensor(np.array(checkpoint[name])) for name in checkpoint}


def test_every_format_has_a_module() -> None:
    for name in get_args(CheckpointFormat):
        assert callable(importlib.import_module(f"kmax.porting.formats.{name}_format").open_file)


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "wrapped",
    [
        TENSORS,
        {"state_dict": TENSORS, "epoch": 3},
        {"model": {"state_dict": TENSORS}, "optimizer": {"lr": 0.1}},
        {"model": OrderedDict(TENSORS), "args": argparse.Namespace(lr=0.1), "where": Path("x")},
        {name: torch.nn.Parameter(tensor, requires_grad=False) for name, tensor in TENSORS.items()},
        {f"module.{name}": tensor for name, tensor in TENSORS.items()},
        {"state_dict": {f"module._orig_mod.{name}": tensor for name, tensor in TENSORS.items()}},
    ],
    ids=["bare", "state_dict", "nested", "settings", "parameters", "distributed", "compiled"],
)
def test_a_state_dict_is_found_inside_the_wrappers_of_training_programs(
    tmp_path: Path, wrapped: object
) -> None:
    tensors = read_tensors(saved(tmp_path / "w.pth", wrapped), "torch")
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_legacy_torch_files_are_read(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    tensors = read_tensors(tmp_path / "w.pth", "torch")
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


@pytest.mark.parametrize("form", ["torch", "safetensors"])
def test_bfloat16_is_widened(tmp_path: Path, form: str) -> None:
    tensor = torch.randn(5, 3).bfloat16()
    if form == "torch":
        torch.save({"w": tensor}, tmp_path / "w")
    else:
        save_file({"w": tensor}, tmp_path / "w")
    assert torch.equal(read_tensors(tmp_path / "w", form)["w"], tensor.float())
    assert open_checkpoint(tmp_path / "w", form).describe("w") == ((5, 3), "bfloat16")


@pytest.mark.parametrize("protocol", range(2, 6))
def test_pickles_of_arrays_are_read(tmp_path: Path, protocol: int) -> None:
    """As in detectron2's model zoo."""
    arrays = {
        "w": np.arange(12, dtype=np.float32).reshape(3, 4),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big_endian": np.arange(3, dtype=">f4"),
        "scalar": np.array(2, dtype=np.int64),
    }
    content = {"model": arrays, "__author__": "test", "matching_heuristics": True, "n": np.float32(3)}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    read = open_checkpoint(tmp_path / "w.pkl", "torch")
    assert read.keys() == arrays.keys()
    assert all(np.array_equal(read[name], arrays[name]) for name in arrays)


def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    """Neither a read past the file nor a tensor of more memory than the file."""
    for shape, stride in (((3,), (4,)), ((10**6, 10**6), (0, 0))):
        tensor = torch.zeros(4)
        state = {"w": Rebuilt(tensor, shape, stride)}
        torch.save(state, tmp_path / "w.pth")
        with pytest.raises(InputError, match=r"w\.pth: .*storage"):
            open_checkpoint(tmp_path / "w.pth", "torch")


class Rebuilt:
    """Pickles as a tensor of any shape and strides on a small storage."""

    def __init__(self, tensor: torch.Tensor, shape: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.arguments = (tensor._typed_storage(), 0, shape, stride, False, OrderedDict())

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return torch._utils._rebuild_tensor_v2, self.arguments


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("as_zip", [True, False])
def test_code_in_a_pickle_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_zip: bool) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Malicious()}, "w.pth", _use_new_zipfile_serialization=as_zip)
    with pytest.raises(InputError, match=r"w\.pth: not a readable torch checkpoint"):
        read_tensors(Path("w.pth"), "torch")
    Path("plain.pkl").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(InputError, match=r"plain\.pkl: "):
        read_tensors(Path("plain.pkl"), "torch")
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"}N" + b"\x85" * 200_000 + b"Ns", "more than 70000 tuples"),  # hashed, it crashes the interpreter
        (b"Nr\xff\xff\xff\xff", "a memo of 4294967295 entries"),  # of 64 GB
        (b"]" * 700_000, "more than 600000 objects"),
        (b"}K\x01\x85" + b"2\x86" * 40 + b"K\x01s", "a key that is not a number or a text"),  # 2^40 hashes
        (
            b"(c_codecs\nencode\nq\x01X\x00\x00\x10\x00"
            + b"a" * 2**20
            + b"\x85q\x02"
            + b"h\x01h\x02R" * 100
            + b"t",
            "copies far larger than the file",
        ),
        (b"".join(b"c%d\nx\n0" % i for i in range(2000)) + b"N", "more than 1000 names of classes"),
        (b"ctorch\nSize\n}b", "corrupt"),
        (b"ctorch\nFloatStorage\n}b", "state for 'torch.FloatStorage'"),
        (b"cos\nsystem\n(X\x01\x00\x00\x00a\x81", "corrupt"),
        (b"cos\nsystem\n)\x81", "refers to 'os.system', which is not a data type; it was not called"),
        (b"(ios\nsystem\n", "refers to 'os.system', which is not a data type; it was not called"),
    ],
)
def test_malicious_pickles_give_a_one_line_error(tmp_path: Path, body: bytes, words: str) -> None:
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04" + body + b".")
    with pytest.raises(InputError, match=words) as caught:
        open_checkpoint(tmp_path / "x.pkl", "torch")
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize("content", [{"a": 1}, [1, 2], {1: torch.zeros(1)}, torch.zeros(2)])
def test_a_file_without_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(InputError, match="no state dict inside"):
        read_tensors(saved(tmp_path / "w.pth", content), "torch")


def test_files_that_are_not_checkpoints_are_refused(tmp_path: Path) -> None:
    for name, form in (("w.pth", "torch"), ("w.safetensors", "safetensors")):
        path = tmp_path / name
        with pytest.raises(InputError, match="checkpoint not found"):
            read_tensors(path, form)
        for content in (b"", b"not a checkpoint", bytes(1000)):
            path.write_bytes(content)
            with pytest.raises(InputError, match=r"not a readable"):
                read_tensors(path, form)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>404", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "a git-lfs pointer"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_tensors(path, "torch")


@pytest.mark.parametrize("kept", [4, 100, -1])
def test_a_truncated_file_is_reported_as_such(tmp_path: Path, kept: int) -> None:
    path = saved(tmp_path / "w.pth", TENSORS)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        InputError, match=r"w\.pth: not a readable torch checkpoint: truncated zip file: its end is missing"
    ):
        open_checkpoint(path, "torch")


def test_a_tensor_whose_bytes_were_changed_is_named_with_the_reason(tmp_path: Path) -> None:
    torch.save({"weight": torch.full((64,), 1.5)}, tmp_path / "w.pth")
    content = bytearray((tmp_path / "w.pth").read_bytes())
    content[content.index(torch.full((64,), 1.5).numpy().tobytes()) + 7] ^= 1
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(InputError, match="tensor 'weight': corrupt: Bad CRC-32"):
        open_checkpoint(tmp_path / "w.pth", "torch")["weight"]


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10_000_000))
    with pytest.raises(InputError, match="compressed archive"):
        read_tensors(path, "torch")


@pytest.mark.parametrize("form", ["torch", "safetensors"])
def test_corrupt_files_give_a_one_line_error(tmp_path: Path, form: str) -> None:
    whole = tmp_path / "whole"
    if form == "torch":
        torch.save(TENSORS, whole)
    else:
        save_file({name: tensor.contiguous() for name, tensor in TENSORS.items()}, whole)
    good = whole.read_bytes()
    rng = random.Random(0)
    path = tmp_path / "damaged"
    faults: list[str] = []
    for trial in range(150):
        damaged = bytearray(good)
        if trial % 3 == 0:
            del damaged[rng.randrange(len(damaged)) :]
        else:
            for _ in range(rng.randrange(1, 6)):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            read_tensors(path, form)
        except InputError as error:
            faults += error.faults
    assert len(faults) > 40
    assert all(fault.startswith(f"{path}: ") and "\n" not in fault for fault in faults)


def test_metadata_of_a_damaged_file_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(InputError, match="not a readable safetensors file"):
        read_metadata(tmp_path / "w.safetensors")
