"""Files are written as a whole or not at all, and killed writers leave nothing behind for long."""

from pathlib import Path

import pytest

from kmax.files import atomic_folder, atomic_path, remove_leftovers


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = ["scores.json", ".scores.json", ".other.json.a1b2.tmp", "scores.json.a1b2.tmp"]
    for name in [*kept, ".scores.json.a1b2.tmp"]:
        (tmp_path / name).touch()
    for name in (".scores.json.c3d4.tmp", ".scores.json.e5f6.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()
    remove_leftovers(tmp_path, "scores.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
    remove_leftovers(tmp_path)
    assert ".other.json.a1b2.tmp" not in {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("write", [atomic_path, atomic_folder])
def test_files_of_a_killed_writer_are_leftovers(tmp_path: Path, write) -> None:
    with write(tmp_path / "result.json") as temporary:
        left = tmp_path / temporary.name.replace(".result.json.", ".result.json.killed-")
        if temporary.is_dir():
            left.mkdir()
        else:
            left.touch()
    remove_leftovers(tmp_path, "result.json")
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
