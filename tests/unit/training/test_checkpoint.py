import os
from pathlib import Path

import pytest
import torch

from kmax.errors import InputError
from kmax.files import remove_leftovers
from kmax.training import checkpoint


def write(folder: Path, *steps: int) -> None:
    for step in steps:
        checkpoint.save(folder, step, {"step": step, "weights": torch.full((1000,), float(step))})


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 30)
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == [
        "checkpoint-00000030.pt",
        "checkpoint-00000002.pt",
    ]
    newest, warnings = checkpoint.newest(tmp_path)
    assert newest is not None
    assert checkpoint.load(newest)["step"] == 30
    assert not warnings
    assert sorted(os.listdir(tmp_path)) == sorted(path.name for path in checkpoint.checkpoints(tmp_path))


def flip_a_bit(data: bytes) -> bytes:
    middle = data.index(b"\x00\x00\x80\x40" * 8)  # 4.0 in float32: inside the weights
    return data[:middle] + b"\x01" + data[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [flip_a_bit, lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"garbage" * 100],
    ids=["bit", "truncated", "empty", "garbage"],
)
def test_a_corrupt_newest_checkpoint_falls_back_with_one_warning(tmp_path: Path, damage) -> None:
    write(tmp_path, 3, 4)
    path = tmp_path / "checkpoint-00000004.pt"
    path.write_bytes(damage(path.read_bytes()))
    newest, warnings = checkpoint.newest(tmp_path)
    assert newest == tmp_path / "checkpoint-00000003.pt"
    assert len(warnings) == 1
    assert "checkpoint-00000004.pt" in warnings[0]


def test_if_all_are_corrupt_the_user_decides(tmp_path: Path) -> None:
    write(tmp_path, 3, 4)
    for path in checkpoint.checkpoints(tmp_path):
        path.write_bytes(b"garbage")
    with pytest.raises(InputError, match="no checkpoint can be read; restart with --fresh") as error:
        checkpoint.newest(tmp_path)
    assert len(error.value.faults) == 3


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    path = tmp_path / "checkpoint-00000005.pt"
    torch.save({"step": 5, "evil": Evil()}, path)
    with pytest.raises(InputError, match="corrupt checkpoint"):
        checkpoint.load(path)
    assert not (tmp_path / "ran").exists()


def test_a_renamed_checkpoint_is_not_believed(tmp_path: Path) -> None:
    write(tmp_path, 3)
    (tmp_path / "checkpoint-00000003.pt").rename(tmp_path / "checkpoint-00000009.pt")
    with pytest.raises(InputError, match="its step differs from the one in its name"):
        checkpoint.load(tmp_path / "checkpoint-00000009.pt")


def test_leftovers_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    write(tmp_path, 3)
    (tmp_path / ".checkpoint-00000004.pt.abc123.tmp").write_bytes(b"half")
    (tmp_path / "events.jsonl").touch()
    remove_leftovers(tmp_path, "checkpoint-*")
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-00000003.pt", "events.jsonl"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is absent")
def test_a_full_disk_gives_a_one_line_error_and_keeps_older_checkpoints(tmp_path: Path, monkeypatch) -> None:
    write(tmp_path, 3)
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda state, path: save(state, "/dev/full"))
    with pytest.raises(InputError, match=r"checkpoint-00000004\.pt: cannot be written"):
        write(tmp_path, 4)
    assert os.listdir(tmp_path) == ["checkpoint-00000003.pt"]
