"""Two users share a data root: each uses what the other downloaded, and nothing locks the other out."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_server import Server
from small_datasets import Own
from test_download import packed, set_files
from users import GROUP, User, become, in_child, own_folder, public_folder, require_root

from kmax.data.download.download_dataset import download
from kmax.data.download.listed_file import KnownDigests
from kmax.errors import InputError
from kmax.files import atomic_folder, exclusive_lock, remove_leftovers, sha256, write_text

FIRST, SECOND = User(54321, 0o022), User(54322, 0o022)
UMASKS = pytest.mark.parametrize("umask", [0o022, 0o002], ids=oct)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that both users can read."""
    require_root()
    with public_folder() as folder:
        yield folder


@pytest.fixture
def root(place: Path, own: Own, server: Server) -> Path:
    """A data root of the group; `own` is an archive on a server."""
    set_files({"url": server.add("all.zip", packed(own)), "path": "all.zip", "unpack": True})
    return own_folder(FIRST, place / "datasets", 0o2775)


def of(user: User, umask: int) -> User:
    return User(user.uid, umask)


def project_of(user: User, place: Path) -> Path:
    """A project of the user, with the dataset file of this one."""
    folder = own_folder(user, place / f"project-{user.uid}")
    shutil.copytree("params", folder / "params")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user.uid, GROUP)
    return folder


def obtain(user: User, project: Path, root: Path) -> str:
    """Download as a user; the digest of the raw manifest."""
    become(user)
    os.chdir(project)
    os.environ["KMAX_DATA_ROOT"] = str(root)
    return sha256(download("own"))


@UMASKS
def test_what_one_user_downloaded_another_uses(place: Path, root: Path, server: Server, umask: int) -> None:
    first, second = of(FIRST, umask), of(SECOND, umask)
    made = in_child(obtain, first, project_of(first, place), root)
    for path in (root / "own").rglob("*"):
        needed = 0o055 if path.is_dir() else 0o044
        assert path.stat().st_mode & needed == needed, f"{path} cannot be read by others"
    assert in_child(obtain, second, project_of(second, place), root) == made
    assert len(server.requests) == 1


@UMASKS
def test_a_download_of_another_user_is_named_as_the_reason_to_wait(
    place: Path, root: Path, umask: int
) -> None:
    first, second = of(FIRST, umask), of(SECOND, umask)

    def touch_lock() -> None:
        become(first)
        with exclusive_lock(root / "own/.downloads/lock", ""):
            pass

    in_child(touch_lock)
    project = project_of(second, place)
    with exclusive_lock(root / "own/.downloads/lock", ""), pytest.raises(InputError) as caught:
        in_child(obtain, second, project, root)
    reason = "another process is downloading 'own'" if umask == 0o002 else "cannot be written: no permission"
    assert reason in str(caught.value)


def test_a_download_that_another_user_left_is_continued_by_the_group(
    place: Path, root: Path, server: Server
) -> None:
    first, second = of(FIRST, 0o002), of(SECOND, 0o002)
    server.files["all.zip"].cuts = [100] * 6
    with pytest.raises(InputError):
        in_child(obtain, first, project_of(first, place), root)
    assert list((root / "own/.downloads").glob(".all.zip.part"))
    for left in (root / "own/.downloads").rglob("*"):
        assert left.stat().st_mode & 0o060 == 0o060, f"{left} is not of the group"
    assert in_child(obtain, second, project_of(second, place), root)


def test_a_folder_of_another_user_alone_says_who_can_complete_it(place: Path, root: Path) -> None:
    def make_folder() -> None:
        become(FIRST)
        (root / "own/.downloads").mkdir(parents=True)

    in_child(make_folder)
    advice = (
        r"cannot be written: no permission; all\.zip is not complete there: have the owner .* KMAX_DATA_ROOT"
    )
    with pytest.raises(InputError, match=advice):
        in_child(obtain, SECOND, project_of(SECOND, place), root)


@pytest.mark.parametrize(("umask", "file", "folder"), [(0o022, 0o644, 0o2755), (0o002, 0o664, 0o2775)])
def test_new_files_have_the_modes_that_the_umask_leaves(
    place: Path, umask: int, file: int, folder: int
) -> None:
    shared = own_folder(FIRST, place / "shared", 0o2775)

    def write() -> None:
        become(of(SECOND, umask))
        write_text(shared / "file", "")
        with atomic_folder(shared / "folder"):
            pass

    in_child(write)
    modes = {name: (shared / name).stat().st_mode & 0o7777 for name in ("file", "folder")}
    assert modes == {"file": file, "folder": folder}
    assert (shared / "file").stat().st_gid == GROUP


@pytest.mark.parametrize("mode", [0o2775, 0o1777], ids=["of the group", "sticky"])
def test_a_lock_file_of_one_user_locks_out_no_other(place: Path, mode: int) -> None:
    shared = own_folder(User(0, 0), place / "shared", mode)

    def lock(user: User) -> bool:
        become(user)
        with exclusive_lock(shared / "lock", "held"):
            return True

    assert in_child(lock, FIRST)
    assert in_child(lock, SECOND)
    with exclusive_lock(shared / "lock", ""), pytest.raises(InputError, match="held"):
        in_child(lock, SECOND)


def test_leftovers_of_another_user_in_a_sticky_folder_do_no_harm(place: Path) -> None:
    shared = own_folder(User(0, 0), place / "shared", 0o1777)

    def leave() -> None:
        become(FIRST)
        (shared / ".file.abc.tmp").touch()
        (shared / ".folder.abc.tmp").mkdir()

    def write() -> None:
        become(SECOND)
        remove_leftovers(shared)
        write_text(shared / "file", "")

    in_child(leave)
    in_child(write)
    assert (shared / "file").exists()


def test_digests_that_cannot_be_kept_are_computed_again(place: Path) -> None:
    folder = own_folder(FIRST, place / "raw")
    (folder / "image").write_text("pixels")

    def digest() -> str:
        become(SECOND)
        digests = KnownDigests(folder / ".digests.json", folder)
        found = digests.of(["image"], "checksums")
        digests.save()
        return found["image"]

    assert in_child(digest) == sha256(folder / "image")
    assert not (folder / ".digests.json").exists()
