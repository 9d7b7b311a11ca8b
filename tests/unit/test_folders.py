"""Listing users' folders: what counts, what is left out, and the reason."""

import os
from pathlib import Path

import pytest

from kmax.errors import InputError
from kmax.folders import TOOL_FOLDERS, Reason, list_files


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_files_are_listed_at_any_depth_sorted_by_name(tmp_path: Path) -> None:
    make(tmp_path, "b.png", "a/z.png", "a-b.png", "a/c/d.png")
    assert list_files(tmp_path).names == ["a-b.png", "a/c/d.png", "a/z.png", "b.png"]
    assert list_files(tmp_path, deep=False).names == ["a-b.png", "b.png"]
    assert list_files(tmp_path).notice() is None


def test_endings_are_compared_in_any_case(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.PNG", "c.Png", "d.txt", "png")
    found = list_files(tmp_path, {".png"})
    assert found.names == ["a.png", "b.PNG", "c.Png"]
    assert found.left_out == {Reason.TYPE: ["d.txt", "png"]}
    assert found.notice() == f"{tmp_path}: left out: 2 of another type (first: 'd.txt')"
    assert found.notice(except_for=[Reason.TYPE]) is None


def test_hidden_and_tools_files_and_folders_are_left_out(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "._a.png", ".DS_Store", ".ipynb_checkpoints/a-checkpoint.png", "Thumbs.db")
    make(tmp_path, "@eaDir/a.png/SYNOPHOTO_THUMB_M.png", "s/__MACOSX/b.png", "s/b.png")
    found = list_files(tmp_path)
    assert found.names == ["a.png", "s/b.png"]
    assert found.left_out == {
        Reason.HIDDEN: [".DS_Store", "._a.png", ".ipynb_checkpoints/"],
        Reason.TOOL: ["@eaDir/", "Thumbs.db", "s/__MACOSX/"],
    }
    assert {name.lower() for name in TOOL_FOLDERS} == TOOL_FOLDERS


def test_a_file_named_like_a_tools_folder_counts(tmp_path: Path) -> None:
    make(tmp_path, "recycler", "thumbs.db/a.png")
    assert list_files(tmp_path).names == ["recycler", "thumbs.db/a.png"]


def test_links_to_folders_and_files_are_followed(tmp_path: Path) -> None:
    root = make(tmp_path / "root", "s0/a.png")
    make(tmp_path, "disk/s1/b.png", "disk/s1/deep/c.png", "one.png")
    (root / "s1").symlink_to(tmp_path / "disk/s1")
    (root / "d.png").symlink_to(tmp_path / "one.png")
    found = list_files(root)
    assert found.names == ["d.png", "s0/a.png", "s1/b.png", "s1/deep/c.png"]
    assert found.left_out == {}


def test_a_link_that_leads_back_is_left_out(tmp_path: Path) -> None:
    root = make(tmp_path / "root", "s/a.png", "masks/a.png")
    (root / "s/itself").symlink_to(root / "s")
    (root / "s/up").symlink_to("../..")
    (root / "again").symlink_to("s")
    found = list_files(root)
    assert found.names == ["masks/a.png", "s/a.png"]
    assert found.left_out == {Reason.LOOP: ["again/", "s/itself/", "s/up/"]}


def test_folders_that_link_each_other_are_listed_once_per_link(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    number = 8  # 8! = 40320 paths without a loop lead through them
    for i in range(number):
        make(tmp_path, f"disk{i}/{i}.png")
    for i in range(number):
        (root / f"d{i}").symlink_to(tmp_path / f"disk{i}")
        for j in range(number):
            (tmp_path / f"disk{i}/to{j}").symlink_to(tmp_path / f"disk{j}")
    found = list_files(root)
    assert len(found.names) == number**2
    assert {f"d{i}/{i}.png" for i in range(number)} <= set(found.names)


def test_a_link_in_a_linked_folder_to_its_parent_is_left_out(tmp_path: Path) -> None:
    root = make(tmp_path / "root", "a.png")
    make(tmp_path, "disk/other/c.png", "disk/s/b.png")
    (root / "s").symlink_to(tmp_path / "disk/s")
    (tmp_path / "disk/s/parent").symlink_to(tmp_path / "disk")
    found = list_files(root)
    assert found.names == ["a.png", "s/b.png"]
    assert found.left_out == {Reason.LOOP: ["s/parent/"]}


def test_two_links_to_one_folder_are_both_listed(tmp_path: Path) -> None:
    root = make(tmp_path / "root", "a.png")
    make(tmp_path, "disk/b.png")
    for name in ("s", "t"):
        (root / name).symlink_to(tmp_path / "disk")
    assert list_files(root).names == ["a.png", "s/b.png", "t/b.png"]


def test_what_is_not_a_file_is_left_out(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "dir.png/b.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "lost.png").symlink_to("nothing")
    (tmp_path / "circle.png").symlink_to("circle.png")
    found = list_files(tmp_path, {".png"})
    assert found.names == ["a.png", "dir.png/b.png"]
    assert found.left_out == {Reason.SPECIAL: ["pipe.png"], Reason.BROKEN: ["circle.png", "lost.png"]}


def test_strange_names_are_listed_as_they_are(tmp_path: Path) -> None:
    names = sorted(["-a.png", "a b$HOME#'\".png", "line\nbreak.png", os.fsdecode(b"latin-\xe9.png")])
    make(tmp_path, *names)
    assert list_files(tmp_path, {".png"}).names == names


def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.png", "closed/b.png")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"closed: folder cannot be read: Permission denied"):
        list_files(tmp_path)


def test_a_folder_that_is_missing_or_a_file_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "a.png")
    with pytest.raises(InputError, match="no: folder of masks not found"):
        list_files(tmp_path / "no", what="folder of masks")
    with pytest.raises(InputError, match="folder of masks is not a folder"):
        list_files(tmp_path / "a.png", what="folder of masks")


def test_files_of_one_stem_are_refused_by_name(tmp_path: Path) -> None:
    make(tmp_path, "s/a.jpg", "s/a.png", "b.jpg", "c.JPG")
    assert list_files(tmp_path).by_stem()["s/a"] == ["s/a.jpg", "s/a.png"]
    with pytest.raises(InputError, match=r"s/a.jpg and s/a.png have the same name without suffix"):
        list_files(tmp_path).one_by_stem("image")
    (tmp_path / "s/a.png").unlink()
    assert list_files(tmp_path).one_by_stem("image") == {"b": "b.jpg", "c": "c.JPG", "s/a": "s/a.jpg"}


def test_a_warning_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, ".a\nb", "c.png")
    list_files(tmp_path).warn()
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"warning: {tmp_path}: left out: 1 hidden (first: '.a\\nb')"
