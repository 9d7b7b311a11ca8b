"""TensorFlow checkpoints are read exactly, and corrupt ones give a one-line error that says where."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundle_writer import Pairs, bundle, entry, header, shard_path, snappy

from kmax.errors import InputError
from kmax.porting.formats.tf_format import Bundle
from kmax.porting.tensorflow.locate import find_prefix
from kmax.porting.tensorflow.table import uncompress

TENSORS = {
    "encoder/a/.ATTRIBUTES/VARIABLE_VALUE": np.arange(6, dtype=np.float32).reshape(2, 3),
    "encoder/b/.ATTRIBUTES/VARIABLE_VALUE": np.array([0.5, -2], dtype=np.float16),
    "encoder/c/.ATTRIBUTES/VARIABLE_VALUE": np.zeros((0, 4), dtype=np.float32),
    "save_counter/.ATTRIBUTES/VARIABLE_VALUE": np.array(3, dtype=np.int64),
    "z/.ATTRIBUTES/VARIABLE_VALUE": np.array([True, False]),
}
A = "encoder/a/.ATTRIBUTES/VARIABLE_VALUE"


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n"


def assert_read(prefix: Path, tensors: dict[str, np.ndarray]) -> None:
    read = Bundle(prefix)
    assert list(read) == sorted(tensors)
    for name, array in tensors.items():
        assert read[name].dtype == array.dtype
        assert np.array_equal(read[name], array)
        assert read[name].shape == array.shape == read.entries[name].shape


# ------------------------------------------------------------------------------------------- what was written


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize(
    "options", [{}, {"compressed": True}, {"block_size": 1}, {"compressed": True, "block_size": 99}]
)
def test_tensors_are_read_from_any_number_of_shards_and_blocks(tmp_path, shards, options):
    assert_read(bundle(tmp_path / "ckpt-1", TENSORS, shards, **options), TENSORS)


def test_checksums_go_over_all_blocks_of_a_tensor(tmp_path, monkeypatch):
    monkeypatch.setattr("kmax.porting.formats.tf_format.BLOCK", 7)
    assert_read(bundle(tmp_path / "ckpt-1", TENSORS), TENSORS)


def test_the_recorded_checkpoint_is_read_byte_for_byte(golden):
    folder = golden / "tf_reference/small_checkpoint"
    recorded = json.loads((folder / "expected.json").read_text())
    read = Bundle(find_prefix(folder))
    assert list(read) == [row[0] for row in recorded["variables"]]
    for name, shape, dtype, kind, total, first in recorded["variables"]:
        array = read[name]
        assert (list(array.shape), read.entries[name].dtype_name) == (shape, dtype)
        if kind == "object_graph":
            assert zlib.crc32(array[()]) == recorded["object_graph_crc32"]
            continue
        assert np.array_equal(array.ravel()[:3].astype(np.float64), first), name
        if total is not None:
            assert np.sum(array, dtype=np.float64) == pytest.approx(total, rel=1e-5, abs=1e-5), name


def test_the_object_graph_names_the_variables_of_the_program(golden):
    read = Bundle(find_prefix(golden / "tf_reference/small_checkpoint"))
    names = read.variables()
    assert names.keys() == read.keys() - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    assert names["global_step/.ATTRIBUTES/VARIABLE_VALUE"] == "global_step"


def test_recorded_shards_of_all_types_are_read(golden):
    folder = golden / "tf_reference/small_checkpoint"
    read = Bundle(folder / "sharded/ckpt-150000")
    for name, shape, dtype, total, first in json.loads((folder / "sharded_expected.json").read_text())[
        "variables"
    ]:
        array = read[name]
        assert (list(array.shape), read.entries[name].dtype_name) == (shape, dtype)
        if dtype == "string":
            assert [zlib.crc32(text) for text in array.ravel()] == first
        else:
            assert np.array_equal(array.ravel()[:6].astype(np.float64), first)
            assert np.sum(array, dtype=np.float64) == pytest.approx(total, abs=1e-5)


def test_a_recorded_index_of_several_blocks_is_read(golden):
    read = Bundle(golden / "tf_reference/small_checkpoint/multiblock/many")
    assert len(read) == 3600
    for i in range(3600):
        name = f"{zlib.crc32(str(i).encode()):08x}/{'x' * 60}/block_{i}/kernel/.ATTRIBUTES/VARIABLE_VALUE"
        assert np.float32(read[name]) == np.float32(i / 3)


@pytest.mark.parametrize("data", [b"", b"a", b"abcd" * 40, bytes(range(256)) * 300, b"x" * 70000])
def test_snappy_blocks_round_trip(data):
    assert uncompress(snappy(data)) == data


# --------------------------------------------------------------------------------------- what a user may name


def test_a_folder_names_its_latest_or_its_only_checkpoint(tmp_path):
    (tmp_path / "inner").mkdir()
    prefix = bundle(tmp_path / "inner/ckpt-1", TENSORS)
    assert find_prefix(tmp_path) == prefix
    bundle(tmp_path / "inner/ckpt-2", TENSORS)
    with pytest.raises(InputError, match=r"expected a single \*\.index in it, found 2: inner/ckpt-1"):
        find_prefix(tmp_path)
    (tmp_path / "inner/checkpoint").write_text('model_checkpoint_path: "/elsewhere/ckpt-2"\n')
    assert find_prefix(tmp_path / "inner") == tmp_path / "inner/ckpt-2"
    (tmp_path / "inner/checkpoint").write_text('model_checkpoint_path: "ckpt-9"\n')
    with pytest.raises(InputError, match=r"checkpoint: names the checkpoint 'ckpt-9', but .* was not found"):
        find_prefix(tmp_path / "inner")


@pytest.mark.parametrize("name", ["ckpt-1.index", "ckpt-1.data-00000-of-00001"])
def test_one_of_the_files_instead_of_their_prefix_is_refused(tmp_path, name):
    bundle(tmp_path / "ckpt-1", TENSORS)
    with pytest.raises(InputError, match=rf"{name}: this is one file of .*; pass .*: {tmp_path}/ckpt-1$"):
        find_prefix(tmp_path / name)


def test_a_prefix_without_files_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"not a TensorFlow checkpoint: ckpt-1\.index not found"):
        find_prefix(tmp_path / "ckpt-1")


# ----------------------------------------------------------------------------------------------------- damage


def replaced(name: str, value: bytes) -> Callable[[Pairs], Pairs]:
    return lambda pairs: [(key, value if key == name.encode() else old) for key, old in pairs]


ENTRIES = {
    "passes the end": (
        replaced(A, entry(1, (2, 3), 0, 99, 24, 0)),
        "data-.*: tensor 'encoder/a.*beyond the end",
    ),
    "shape and size": (
        replaced(A, entry(1, (2, 4), 0, 0, 24, 0)),
        r"index: tensor 'encoder/a.*shape \[2, 4\]",
    ),
    "huge shape": (replaced(A, entry(1, (1 << 40, 1 << 40), 0, 0, 24, 0)), "tensor 'encoder/a.*does not fit"),
    "resource": (replaced(A, entry(20, (2, 3), 0, 0, 24, 0)), r"tensor 'encoder/a.*type 20 \(resource\)"),
    "unknown type": (replaced(A, entry(77, (2, 3), 0, 0, 24, 0)), r"tensor 'encoder/a.*type 77 \(unknown\)"),
    "slices": (replaced(A, entry(1, (2, 3), 0, 0, 24, 0, (7, b""))), "tensor 'encoder/a.*in slices"),
    "no such shard": (replaced(A, entry(1, (2, 3), 5, 0, 24, 0)), "tensor 'encoder/a.*data file 5 of 1"),
    "big-endian": (replaced("", header(1, (2, 1))), r"ckpt-1\.index: .*big-endian"),
    "no shards": (replaced("", header(0)), r"ckpt-1\.index: the header declares no shards"),
    "more shards": (replaced("", header(3)), r"data-00000-of-00003: not found, .*3 data files"),
    "no header": (lambda pairs: pairs[1:], r"ckpt-1\.index: it has no header"),
    "no entries": (lambda pairs: [], r"ckpt-1\.index: it has no header"),
    "twice": (lambda pairs: [*pairs[:2], pairs[1], *pairs[2:]], "the key 'encoder/a.* is a duplicate"),
    "out of order": (lambda pairs: [*pairs[:1], *pairs[:0:-1]], "is a duplicate or out of order"),
    "no text": (lambda pairs: [*pairs, (b"\xff", b"")], "is not printable text"),
    "cut entry": (replaced(A, b"\x08"), "tensor 'encoder/a.*truncated"),
}


@pytest.mark.parametrize(("change", "expected"), ENTRIES.values(), ids=ENTRIES)
def test_an_index_with_impossible_entries_is_refused(tmp_path, change, expected):
    prefix = bundle(tmp_path / "ckpt-1", TENSORS, change=change)
    with pytest.raises(InputError, match=expected) as caught:
        Bundle(prefix)
    assert len(caught.value.faults) == 1


def flip(path: Path, at: int, to: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[at] = content[at] ^ 0x10 if to is None else to
    path.write_bytes(content)


def cut(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep] if keep else b"")


INDEX_DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a byte short": (lambda path: cut(path, path.stat().st_size - 1), "last 8 bytes"),
    "without its end": (lambda path: cut(path, path.stat().st_size - 48), "last 8 bytes"),
    "zeroed end": (lambda path: path.write_bytes(path.read_bytes()[:-8] + bytes(8)), "last 8 bytes"),
    "a byte of the block": (lambda path: flip(path, 30), "checksum mismatch"),
    "empty": (lambda path: cut(path, 0), "an empty file"),
    "a web page": (lambda path: path.write_bytes(b"<!doctype html><html>"), "a web page"),
    "a pointer": (lambda path: path.write_bytes(LFS), "a git-lfs pointer"),
    "the data file": (lambda path: shutil.copy(shard_path(path.with_suffix(""), 0, 1), path), "last 8 bytes"),
}


@pytest.mark.parametrize(("damage", "expected"), INDEX_DAMAGE.values(), ids=INDEX_DAMAGE)
def test_a_corrupt_index_is_refused(tmp_path, damage, expected):
    prefix = bundle(tmp_path / "ckpt-1", TENSORS)
    damage(tmp_path / "ckpt-1.index")
    with pytest.raises(InputError, match=rf"ckpt-1\.index: .*{expected}"):
        Bundle(prefix)


def test_a_data_file_that_is_a_pointer_is_called_so(tmp_path):
    """Its size is that of a small tensor, so that only the content shows it."""
    prefix = bundle(tmp_path / "ckpt-1", {A: np.zeros(200, np.float32), "b": np.ones(2, np.float32)})
    shard_path(prefix, 0, 1).write_bytes(LFS)
    with pytest.raises(InputError, match=r"data-00000-of-00001: tensor '.*\(the file is a git-lfs pointer"):
        Bundle(prefix)
    prefix = bundle(tmp_path / "ckpt-2", {A: np.ones(2, np.float32)})
    shard_path(prefix, 0, 1).write_bytes(LFS)
    with pytest.raises(InputError, match=r"checksum mismatch.*\(the file is a git-lfs pointer"):
        Bundle(prefix)[A]


@pytest.mark.parametrize("kind", [1, 7])
@pytest.mark.parametrize("signed", [False, True])
def test_a_changed_compression_byte_is_detected(tmp_path, monkeypatch, kind, signed):
    import bundle_writer

    monkeypatch.setattr(bundle_writer, "framed", lambda content, _=0: sealed(content, kind, signed))
    prefix = bundle(tmp_path / "ckpt-1", TENSORS)
    expected = "checksum mismatch" if not signed else "compress"
    with pytest.raises(InputError, match=rf"ckpt-1\.index: .*{expected}"):
        Bundle(prefix)


def sealed(content: bytes, kind: int, signed: bool) -> bytes:
    """A block whose compression byte was changed, with or without a checksum that fits."""
    from kmax.porting.tensorflow.encoding import masked_crc

    crc = masked_crc(content + bytes([kind if signed else 0]))
    return content + bytes([kind]) + crc.to_bytes(4, "little")


def test_a_changed_byte_is_reported_with_the_name_of_its_tensor(tmp_path):
    prefix = bundle(tmp_path / "ckpt-1", TENSORS)
    flip(shard_path(prefix, 0, 1), 5)
    read = Bundle(prefix)
    with pytest.raises(InputError, match=r"data-00000-of-00001: tensor 'encoder/a/.*checksum"):
        read[A]
    assert read["z/.ATTRIBUTES/VARIABLE_VALUE"].tolist() == [True, False]


@pytest.mark.parametrize("keep", [0, 12])
def test_a_truncated_data_file_is_refused(tmp_path, keep):
    prefix = bundle(tmp_path / "ckpt-1", TENSORS)
    cut(shard_path(prefix, 0, 1), keep)
    with pytest.raises(InputError, match=r"data-00000-of-00001: tensor 'encoder/a/.*beyond the end"):
        Bundle(prefix)


def test_missing_and_swapped_shards_are_refused(tmp_path):
    prefix = bundle(tmp_path / "ckpt-1", {f"t{i}": np.full(4, i, np.float32) for i in range(4)}, shards=2)
    first, second = (shard_path(prefix, number, 2) for number in range(2))
    content = first.read_bytes(), second.read_bytes()
    first.write_bytes(content[1])
    second.write_bytes(content[0])
    with pytest.raises(InputError, match=r"data-00000-of-00002: tensor 't0': .*checksum"):
        Bundle(prefix)["t0"]
    second.unlink()
    with pytest.raises(InputError, match="data-00001-of-00002: not found"):
        Bundle(prefix)


def test_damage_to_recorded_strings_is_detected(golden, tmp_path):
    for path in (golden / "tf_reference/small_checkpoint/sharded").iterdir():
        shutil.copyfile(path, tmp_path / path.name)
    read = Bundle(tmp_path / "ckpt-150000")
    name = "strings/.ATTRIBUTES/VARIABLE_VALUE"
    where = read.entries[name]
    for at in range(where.size):
        path = read.shard(where.shard)
        flip(path, where.offset + at)
        with pytest.raises(InputError, match=f"tensor '{name}'"):
            read[name]
        flip(path, where.offset + at)
    assert len(read[name]) == 3
