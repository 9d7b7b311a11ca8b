"""Safe unpacking of zip and tar archives, of datasets and of checkpoints.

Nothing is written outside of the folder, no existing file is overwritten, memory is bounded, and a killed
process leaves only complete files, from which the next one continues.

Archives are unpacked rather than read in place: images are then files that every tool reads at any position
from many processes, which a zip of 118287 members is not (an index per process, a lock per file, and the
official scripts cannot see inside). An archive that this project downloaded is removed when its members
are on disk, so that the space is used only once.
"""

from __future__ import annotations

import contextlib
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from kmax.errors import InputError
from kmax.fetch.tar_listing import open_tar

BLOCK = 2**20
MAX_EXPANSION = 200  # unpacked size by archive size: JSON compresses to a tenth, images hardly
MAX_NAME_BYTES = 255  # bytes, of a file or folder
MIN_UNPACKED_LIMIT = 2**20  # bytes that any archive may unpack to, however small
JUNK = {"__MACOSX", ".DS_Store"}
CORRUPTION_ERRORS = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OSError,
)


@dataclass(frozen=True)
class Contents:
    """What to extract from an archive.

    Attributes:
        strip: folder inside the archive that is unpacked, without its name; empty: the whole archive.
        inside: nested archives, by their paths below the root, which are unpacked in place.
        only: files and folders, by their paths below the root; none: all.
        reserved: names in the root that the archive must not contain.
        files: pattern of the names of files to extract; all other entries are skipped, including links and
            devices. None: all files are extracted, and links and devices are rejected.
    """

    strip: str = ""
    inside: Sequence[str] = ()
    only: Sequence[str] = ()
    reserved: Sequence[str] = ()
    files: re.Pattern[str] | None = None

    def ignores(self, member: str, is_file: bool) -> bool:
        """Whether an entry is skipped without being checked."""
        return self.files is not None and not (
            is_file and self.files.fullmatch(member.rpartition("/")[2]) is not None
        )

    def name(self, member: str) -> str | None:
        """The path below the root; None if the member is not extracted."""
        if self.strip:
            if not member.startswith(f"{self.strip}/"):
                return None
            member = member.removeprefix(f"{self.strip}/")
        selected = not self.only or any(
            member == one or member.startswith(f"{one}/") for one in (*self.only, *self.inside)
        )
        return member if selected else None


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, root: Path, work: Path, contents: Contents) -> dict[str, int]:
    """Unpack a zip or tar below `root`; existing files with the same content stay.

    Args:
        work: a folder on the same disk for incomplete files. It stays, empty: while it exists, unpacking may
            be incomplete.

    Returns:
        The size of every unpacked file, by its path below `root`.

    Raises:
        InputError: corrupt, with members that lead out of the folder, far larger than the archive, larger
            than the free space, or with members that exist with another content.
    """
    try:
        work.mkdir(parents=True, exist_ok=True)
        _empty(work)
        try:
            return _unpack(archive, root, work, contents, "")
        finally:
            _empty(work)
    except OSError as error:
        where = error.filename or archive
        raise InputError(
            f"{where}: cannot be written: {error.strerror or error}; run the command again"
        ) from error


def _empty(work: Path) -> None:
    for left in work.iterdir():
        left.unlink()


def _unpack(archive: Path, root: Path, work: Path, contents: Contents, folder: str) -> dict[str, int]:
    sizes: dict[str, int] = {}
    faults: list[str] = []
    with _one_line_faults(archive), _members(archive) as all_members:
        members = _checked(archive, all_members, contents, folder)
        _require_space(archive, root, members)
        for member in members:
            target = root / member.name
            if member.name in contents.inside:
                inner = work / f"{len(sizes)}-{target.name}"
                _write(member, inner, work)
                parent = str(PurePosixPath(member.name).parent)
                outer = Contents(only=contents.only, reserved=contents.reserved)
                sizes.update(_unpack(inner, root, work, outer, "" if parent == "." else parent))
                inner.unlink()
            elif os.path.lexists(target):
                if not _same(member, target):
                    faults.append(
                        f"{target}: differs from the file of that name in {archive.name}; move it away"
                    )
                sizes[member.name] = member.size
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                _write(member, target, work)
                sizes[member.name] = member.size
    if faults:
        raise InputError(faults)
    return sizes


@contextlib.contextmanager
def _one_line_faults(archive: Path) -> Iterator[None]:
    try:
        yield
    except CORRUPTION_ERRORS as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the disk, not of the archive
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{archive}: cannot be unpacked: {reason}; the archive is corrupt: move it away, and run "
            "the command again to download it again (files unpacked so far are complete and kept)"
        ) from error


@contextlib.contextmanager
def _members(archive: Path) -> Iterator[Iterator[tuple[str, str | None, _Member | None]]]:
    """Name, fault and content of every entry; folders have no content."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            yield (_of_zip(zipped, info) for info in zipped.infolist())
    else:
        with open_tar(archive) as (tarred, infos):
            yield (_of_tar(tarred, info) for info in infos)


def _of_zip(zipped: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[str, str | None, _Member | None]:
    mode = info.external_attr >> 16
    fault = None
    if info.create_system == 3 and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        fault = "is a link or a device"
    elif info.flag_bits & 1:
        fault = "is encrypted"
    name = info.orig_filename
    if name.endswith("/"):
        return name, fault, None
    return name, fault, _Member(name, info.file_size, lambda: zipped.open(info))


def _of_tar(tarred: tarfile.TarFile, info: tarfile.TarInfo) -> tuple[str, str | None, _Member | None]:
    if info.isdir():
        return info.name, None, None
    if not info.isreg():
        return info.name, "is a link or a device", None

    def open_member() -> IO[bytes]:
        stream = tarred.extractfile(info)
        assert stream is not None  # a regular file has content
        return stream

    return info.name, None, _Member(info.name, info.size, open_member)


def _checked(
    archive: Path,
    entries: Iterator[tuple[str, str | None, _Member | None]],
    contents: Contents,
    folder: str,
) -> list[_Member]:
    """The selected members with their paths below the root; an unsafe entry rejects the archive."""
    members: dict[str, _Member] = {}
    total, most = 0, MAX_EXPANSION * archive.stat().st_size + MIN_UNPACKED_LIMIT
    for name, fault, member in entries:
        if contents.ignores(name, member is not None):
            continue
        if fault is None and not _stays_inside(name):
            fault = "leads out of the folder"
        if fault is None and any(
            len(os.fsencode(part)) > MAX_NAME_BYTES for part in PurePosixPath(name).parts
        ):
            fault = f"is longer than {MAX_NAME_BYTES} bytes"
        if fault is not None:
            raise InputError(f"{archive}: {name!r} {fault}; nothing was unpacked")
        if member is None or JUNK.intersection(PurePosixPath(name).parts):
            continue
        total += member.size
        if total > most:
            raise InputError(
                f"{archive}: unpacks to more than {most} bytes, over {MAX_EXPANSION} times its size, "
                "the limit for datasets; nothing was unpacked"
            )
        clean = str(PurePosixPath(folder) / PurePosixPath(name))
        below = contents.name(clean)
        if below is None:
            continue
        if PurePosixPath(below).parts[0] in contents.reserved:
            raise InputError(f"{archive}: {name!r} is reserved for this project; nothing was unpacked")
        if below in members:
            raise InputError(f"{archive}: duplicate member {name!r}; nothing was unpacked")
        members[below] = _Member(below, member.size, member.open)
    for below in members:
        if any(str(parent) in members for parent in PurePosixPath(below).parents):
            raise InputError(f"{archive}: {below!r} is inside a file, not a folder; nothing was unpacked")
    if not members:
        raise InputError(f"{archive}: contains none of the expected files; nothing was unpacked")
    return list(members.values())


def _stays_inside(name: str) -> bool:
    """Whether a name is a plain path below the folder that it is unpacked into."""
    path = PurePosixPath(name)
    return (
        bool(path.parts)
        and not path.is_absolute()
        and ".." not in path.parts
        and re.search(r"[\x00\\]|^[A-Za-z]:", name) is None
    )


def _require_space(archive: Path, root: Path, members: list[_Member]) -> None:
    disk = os.statvfs(root)
    blocks = sum(-(-m.size // disk.f_bsize) for m in members if not os.path.lexists(root / m.name))
    needed, free = blocks * disk.f_bsize, disk.f_bavail * disk.f_frsize
    if needed > free:
        raise InputError(
            f"{archive}: needs {needed} bytes to unpack, but {free} are free in {root}; free some, and run "
            "the command again"
        )


def _write(member: _Member, target: Path, work: Path) -> None:
    """Write a member, and rename it when it is complete."""
    temporary = work / "unfinished"
    done = 0
    with member.open() as source, open(temporary, "wb") as stream:
        while block := source.read(BLOCK):
            done += len(block)
            if done > member.size:
                break
            stream.write(block)
    if done != member.size:
        raise ValueError(f"{member.name} has at least {done} bytes, expected {member.size}")
    os.replace(temporary, target)


def _same(member: _Member, path: Path) -> bool:
    """Whether a file has the content of a member."""
    if not path.is_file() or path.stat().st_size != member.size:
        return False
    with member.open() as source, open(path, "rb") as stream:
        while block := source.read(BLOCK):
            if stream.read(len(block)) != block:
                return False
    return True
