"""Archives of strangers: what comes out of them stays in its folder, or nothing comes out."""

import io
import os
import random
import stat
import tarfile
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kmax.errors import InputError
from kmax.fetch import archives, tar_listing
from kmax.fetch.archives import Contents, unpack

MEMBERS = {"a/b/one.txt": b"one", "two.txt": b"two" * 1000}


def zip_of(members: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] | None = None) -> bytes:
    packed = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # of names that occur twice
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if change is not None:
                change(info)
            archive.writestr(info, content)
    return packed.getvalue()


def tar_of(members: dict[str, bytes], change: Callable[[tarfile.TarInfo], None] | None = None) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if change is not None:
                change(info)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def zip_link(info: zipfile.ZipInfo) -> None:
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16


def zip_twice(_: object) -> bytes:
    packed = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(packed, "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("a", "first")
        archive.writestr("./a", "second")
    return packed.getvalue()


def tar_type(kind: bytes) -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname, info.size = kind, "/etc/passwd", 0

    return change


def damaged(content: bytes) -> bytes:
    """Bytes of a member changed: the directory is sound, the checksum is not."""
    place = content.index(b"one.txt") + len(b"one.txt")
    return content[: place + 1] + bytes([content[place + 1] ^ 0xFF]) + content[place + 2 :]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def unpacked(content: bytes, root: Path, contents: Contents | None = None) -> dict[str, int]:
    archive = root.parent / "archive"
    archive.write_bytes(content)
    return unpack(archive, root, root / ".work", contents or Contents())


def files_in(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def gzipped(content: bytes) -> bytes:
    import gzip

    return gzip.compress(content)


@pytest.mark.parametrize("pack", [zip_of, tar_of, lambda members: gzipped(tar_of(members))])
def test_members_come_out_whole_and_again_nothing_is_written(root: Path, pack) -> None:
    sizes = unpacked(pack(MEMBERS), root)
    assert sizes == {name: len(content) for name, content in MEMBERS.items()}
    assert files_in(root) == MEMBERS
    before = {path: path.stat().st_ino for path in root.rglob("*")}
    assert unpacked(pack(MEMBERS), root) == sizes
    assert {path: path.stat().st_ino for path in root.rglob("*")} == before


ESCAPES = ["../out", "a/../../out", "/tmp/out", "a\\..\\out", "C:out", "a/\0b", "..", ""]


@pytest.mark.parametrize("pack", [zip_of, tar_of])
@pytest.mark.parametrize("name", ESCAPES)
def test_names_that_lead_elsewhere(root: Path, pack, name: str) -> None:
    if pack is zip_of and not name:
        name = "/"  # zipfile writes no empty one
    content = pack({"good": b"x", name.replace("\0", "#"): b"x"}).replace(b"a/#b", b"a/\0b")
    if pack is tar_of and "\0" in name:
        return  # names in tar files end at a zero byte, and checksums see the change
    before = set(root.parent.rglob("*"))
    with pytest.raises(InputError, match=r"leads out of the folder; nothing was unpacked|cannot be unpacked"):
        unpacked(content, root)
    assert files_in(root) == {}
    assert set(root.parent.rglob("*")) - before == {root / ".work", root.parent / "archive"}


HOSTILE = {
    "zip link": (lambda: zip_of({"good": b"x", "link": b"/etc"}, zip_link), "is a link or a device"),
    "tar symbolic link": (lambda: tar_of(MEMBERS, tar_type(tarfile.SYMTYPE)), "is a link or a device"),
    "tar hard link": (lambda: tar_of(MEMBERS, tar_type(tarfile.LNKTYPE)), "is a link or a device"),
    "tar device": (lambda: tar_of(MEMBERS, tar_type(tarfile.CHRTYPE)), "is a link or a device"),
    "tar pipe": (lambda: tar_of(MEMBERS, tar_type(tarfile.FIFOTYPE)), "is a link or a device"),
    "zip twice": (lambda: zip_twice(None), "duplicate member"),
    "zip bomb": (lambda: zip_of({"zeros": bytes(20 * 2**20)}), "over 200 times its size"),
    "tar bomb": (lambda: gzipped(tar_of({"zeros": bytes(20 * 2**20)})), "over 200 times its size"),
    "empty zip": (lambda: zip_of({}), "contains none of the expected files"),
    "no archive": (lambda: b"neither zip nor tar" * 100, "cannot be unpacked"),
    "nothing": (lambda: b"", "cannot be unpacked"),
    "zip damaged": (lambda: damaged(zip_of(MEMBERS)), "the archive is corrupt: move it away"),
    "zip cut": (lambda: zip_of(MEMBERS)[:-10], "cannot be unpacked"),
    "tar cut": (lambda: tar_of({"a": bytes(5000), "b": bytes(5000)})[:7000], "cannot be unpacked"),
    "tar.gz cut": (lambda: gzipped(tar_of({"a": random.Random(0).randbytes(5000)}))[:2000], "cannot be unp"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_and_damaged_archives_are_refused_in_a_line(root: Path, name: str) -> None:
    make, message = HOSTILE[name]
    with pytest.raises(InputError, match=message) as caught:
        unpacked(make(), root)
    (fault,) = caught.value.faults
    assert "\n" not in fault
    assert files_in(root).keys() <= {"two.txt", "a"}  # whole members that came before the damage


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_headers_that_expand_are_refused_within_bounded_memory(root: Path, kind: bytes) -> None:
    header = tarfile.TarInfo("a")
    header.type, header.size = kind, 2**26
    content = gzipped(header.tobuf() + bytes(header.size) + tar_of({"a": b"a"}))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"cannot be unpacked: a header of 67108864 bytes"):
            unpacked(content, root)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
    assert not files_in(root)


def test_members_without_content_do_not_expand_either(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_listing, "MOST_READ", 2**16)
    content = gzipped(tar_of({f"{number}": b"" for number in range(2000)}))
    with pytest.raises(InputError, match="headers larger than the archive itself"):
        unpacked(content, root)
    assert not files_in(root)


def test_a_member_larger_than_it_says_is_cut_off(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    member = archives._Member("lying", 10, lambda: io.BytesIO(bytes(10**6)))
    (root / ".work").mkdir()
    with pytest.raises(ValueError, match="expected 10"):
        archives._write(member, root / "lying", root / ".work")
    assert not (root / "lying").exists()


def test_encrypted_members_are_refused(root: Path) -> None:
    content = bytearray(zip_of({"secret": b"x"}))
    for signature, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        content[content.index(signature) + place] |= 1
    with pytest.raises(InputError, match="'secret' is encrypted"):
        unpacked(bytes(content), root)


def test_what_is_there_with_another_content_stays(root: Path) -> None:
    (root / "two.txt").write_text("mine")
    with pytest.raises(
        InputError, match=r"two\.txt: differs from the file of that name in archive; move it away"
    ):
        unpacked(zip_of(MEMBERS), root)
    assert (root / "two.txt").read_text() == "mine"
    assert (root / "a/b/one.txt").read_bytes() == b"one"


def test_only_what_is_wanted_comes_out(root: Path) -> None:
    inner = zip_of({"pngs/1.png": b"1", "pngs/2.png": b"2", "README": b"no", "__MACOSX/pngs/._1.png": b"no"})
    outer = zip_of(
        {
            "top/notes/inner.zip": inner,
            "top/notes/a.json": b"{}",
            "top/README": b"no",
            "top/notes/.DS_Store": b"no",
            "other/notes/a.json": b"no",
        }
    )
    contents = Contents(strip="top", inside=["notes/inner.zip"], only=["notes/a.json", "notes/pngs"])
    sizes = unpacked(outer, root, contents)
    assert files_in(root) == {"notes/a.json": b"{}", "notes/pngs/1.png": b"1", "notes/pngs/2.png": b"2"}
    assert sizes == {"notes/a.json": 2, "notes/pngs/1.png": 1, "notes/pngs/2.png": 1}


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_notes_of_the_download_are_not_brought_by_archives(root: Path, pack) -> None:
    forged = pack({"./.downloads/other.zip.unpacked.json": b"{}", **MEMBERS})
    with pytest.raises(InputError, match=r"reserved for this project; nothing was unpacked"):
        unpacked(forged, root, Contents(reserved=[".downloads"]))
    assert files_in(root) == {}


def test_hostile_archives_inside_archives_are_refused(root: Path) -> None:
    outer = zip_of({"notes/inner.zip": zip_of({"../../out": b"x"})})
    with pytest.raises(InputError, match="leads out of the folder"):
        unpacked(outer, root, Contents(inside=["notes/inner.zip"]))
    assert files_in(root) == {}


def test_a_disk_without_room_is_told_before(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(root)
    full = os.statvfs_result((real.f_bsize, real.f_frsize, *real[2:4], 1, *real[5:]))
    monkeypatch.setattr(archives.os, "statvfs", lambda _: full)
    with pytest.raises(InputError, match=r"needs \d+ bytes to unpack, but \d+ are free"):
        unpacked(zip_of(MEMBERS), root)
    assert files_in(root) == {}


def test_random_bytes_never_break_out_or_through(root: Path) -> None:
    """Archives with random bytes changed end well or in one line."""
    rng, told = random.Random(0), 0
    for pack in (zip_of, tar_of, lambda members: gzipped(tar_of(members))):
        sound = pack(MEMBERS)
        for i in range(60):
            content = bytearray(sound)
            for _ in range(rng.choice((1, 3, 20))):
                content[rng.randrange(len(content))] = rng.randrange(256)
            folder = root / f"{pack.__name__}{i}"
            folder.mkdir(exist_ok=True)
            (root / "archive").write_bytes(content)
            try:
                unpack(root / "archive", folder, folder / ".work", Contents())
            except InputError as error:
                told += len(error.faults)
    assert told > 50
    assert {path.name for path in root.parent.iterdir()} == {"data"}


@pytest.mark.parametrize("pack", [zip_of, tar_of])
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("manifest.json", "is reserved for this project"),
        ("two.txt/three.txt", "is inside a file, not a folder"),
        ("x" * 256, "is longer than 255 bytes"),
    ],
)
def test_names_that_the_folder_cannot_hold_are_refused(root: Path, pack, name: str, told: str) -> None:
    with pytest.raises(InputError, match=f"{told}.*; nothing was unpacked"):
        unpacked(pack({name: b"1", **MEMBERS}), root, Contents(reserved=["manifest.json"]))
    assert files_in(root) == {}
