"""An output replaces nothing but an earlier output of the same command, and no input in any case."""

import os
from pathlib import Path

import pytest

from kmax.errors import InputError
from kmax.outputs import IsOurs, begins_with, check_outputs, json_object, refuse_foreign, require_outputs


def is_ours(path: Path) -> bool:
    return begins_with(path, "ours")


def fault(path: Path, recognise: IsOurs = is_ours, overwrite: bool = False) -> str:
    with pytest.raises(InputError) as caught:
        refuse_foreign(path, recognise, overwrite)
    (line,) = caught.value.faults
    return line


def test_an_output_that_is_an_input_by_another_name_is_refused(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"photo")
    (tmp_path / "link.png").symlink_to(photo)
    (tmp_path / "folder").symlink_to(tmp_path)
    for name in ("photo.png", "link.png", "folder/photo.png", "x/../photo.png"):
        with pytest.raises(InputError, match=r"would overwrite the input .*photo\.png"):
            check_outputs([tmp_path / name], [photo])
    os.link(photo, tmp_path / "hard.png")  # a rename over it leaves the input as it is
    check_outputs([tmp_path / "hard.png", tmp_path / "new.png"], [photo])


def test_two_outputs_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"b\.png: is the name of two outputs"):
        check_outputs([tmp_path / "b.png", tmp_path / "x/../b.png"], [])


def test_names_that_differ_in_case_are_one_where_the_file_system_ignores_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = [tmp_path / "Cat.png", tmp_path / "cat.png"]
    check_outputs(outputs, [])
    monkeypatch.setattr("kmax.outputs._ignores_case", lambda folder: True)
    with pytest.raises(InputError, match="is the name of two outputs"):
        check_outputs(outputs, [])
    with pytest.raises(InputError, match="would overwrite the input"):
        check_outputs([tmp_path / "gr\u00fcn.png"], [tmp_path / "Gru\u0308n.png"])


def test_only_earlier_outputs_are_replaced(tmp_path: Path) -> None:
    refuse_foreign(tmp_path / "new/folder/out.txt", is_ours, overwrite=False)
    assert not (tmp_path / "new").exists()
    out = tmp_path / "out.txt"
    out.write_text("ours")
    refuse_foreign(out, is_ours, overwrite=False)
    out.write_text("a diary")
    assert "exists, and this command did not write it" in fault(out)
    refuse_foreign(out, is_ours, overwrite=True)


def test_an_output_must_be_a_place_for_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    for overwrite in (False, True):
        assert "is a folder" in fault(tmp_path, overwrite=overwrite)
        assert f"{tmp_path}/file is not a folder" in fault(tmp_path / "file/out", overwrite=overwrite)
        assert "is a device, pipe or socket" in fault(tmp_path / "pipe", overwrite=overwrite)
        assert "is a device, pipe or socket" in fault(Path("/dev/null"), overwrite=overwrite)
        for length in (245, 300):  # the temporary name is longer
            assert "name too long" in fault(tmp_path / ("a" * length), overwrite=overwrite)
    assert "is a symbolic link to file" in fault(tmp_path / "link", lambda path: True)
    refuse_foreign(tmp_path / "link", is_ours, overwrite=True)


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda folder, mode: False)
    assert f"cannot be written: {tmp_path}: no permission" in fault(tmp_path / "a/b/out")


def test_a_file_that_cannot_be_read_is_foreign(tmp_path: Path) -> None:
    def unreadable(path: Path) -> bool:
        raise PermissionError

    (tmp_path / "out").write_text("ours")
    assert "did not write it" in fault(tmp_path / "out", unreadable)


def test_files_in_folders_of_inputs_are_kept_even_if_overwriting_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_text("photo")
    (tmp_path / "earlier.png").write_text("ours")
    outputs = {tmp_path / name: is_ours for name in ("photo.png", "earlier.png", "new.png")}
    with pytest.raises(InputError, match=r"photo\.png: is in the input folder") as caught:
        require_outputs(outputs, [tmp_path], overwrite=True)
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"a": ' * 10_000, "\xff"])
def test_any_file_may_stand_where_json_is_looked_for(tmp_path: Path, content: str) -> None:
    (tmp_path / "x").write_text(content, encoding="latin-1")
    assert json_object(tmp_path / "x") == {}
