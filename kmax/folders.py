"""Files in folders of the user: which ones count, and which ones are left out, with the reason.

Every command that reads a folder of images, labels or predictions lists it here, so that all of them agree.
"""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kmax.display import printable
from kmax.errors import InputError

# Folders and files of operating systems, storage devices and tools, in small letters; hidden ones are left
# out by their first dot.
TOOL_FOLDERS = {
    "@eadir",
    "#recycle",
    "#snapshot",
    "@recycle",
    "@recently-snapshot",
    "@snapshot",
    "@synoresource",
    "@tmp",
    "__macosx",
    "__pycache__",
    "$recycle.bin",
    "recycler",
    "lost+found",
    "network trash folder",
    "system volume information",
    "temporary items",
}
TOOL_FILES = {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"}


class Reason(enum.StrEnum):
    """Why a file or folder is left out."""

    HIDDEN = "hidden"
    TOOL = "made by the operating system or a tool"
    TYPE = "of another type"
    SPECIAL = "neither a file nor a folder"
    BROKEN = "a link to nothing"
    LOOP = "a link to a folder that is already listed"


@dataclass
class FolderFiles:
    """The files of a folder at any depth, sorted by name.

    Attributes:
        folder: the folder.
        names: of the files, relative to it, with `/`.
        left_out: names by reason; a folder is one name that ends in `/`.
    """

    folder: Path
    names: list[str]
    left_out: dict[Reason, list[str]] = field(default_factory=dict)

    def paths(self) -> list[Path]:
        """Paths of the files."""
        return [self.folder / name for name in self.names]

    def by_stem(self) -> dict[str, list[str]]:
        """Names by name without suffix; several where only the suffix differs."""
        stems: dict[str, list[str]] = {}
        for name in self.names:
            stems.setdefault(os.path.splitext(name)[0], []).append(name)
        return stems

    def stem_faults(self, what: str) -> list[str]:
        """One line for each set of files that differ in their suffix only; `what` says what they are."""
        return [
            f"{self.folder}: {' and '.join(names)} have the same name without suffix; "
            f"keep only the {what} in this folder"
            for names in self.by_stem().values()
            if len(names) > 1
        ]

    def one_by_stem(self, what: str) -> dict[str, str]:
        """Names by name without suffix.

        Raises:
            InputError: two files differ in their suffix only; `what` says what they are.
        """
        if faults := self.stem_faults(what):
            raise InputError(faults)
        return {stem: names[0] for stem, names in self.by_stem().items()}

    def notice(self, except_for: Collection[Reason] = ()) -> str | None:
        """One line with the numbers of what was left out and why; None if that is nothing."""
        parts = [
            f"{len(names)} {reason.value} (first: {names[0]!r})"
            for reason, names in self.left_out.items()
            if reason not in except_for
        ]
        return f"{self.folder}: left out: {', '.join(parts)}" if parts else None

    def warn(self, except_for: Collection[Reason] = ()) -> None:
        """Print the notice, if there is one, as a warning."""
        if notice := self.notice(except_for):
            print(f"warning: {printable(notice)}", file=sys.stderr)


def list_files(
    folder: Path, endings: Collection[str] | None = None, what: str = "folder", *, deep: bool = True
) -> FolderFiles:
    """List the files of a folder, at any depth.

    Links to folders are followed, except to a folder that contains the link or that is listed already. Hidden
    files and folders, and those of operating systems and tools, are left out.

    Args:
        folder: the folder to list.
        endings: in small letters, such as `.png` or `_gtfine_labelids.png`; compared in any case. None: all.
        what: role of the folder, for errors.
        deep: also list the files in its subfolders.

    Raises:
        InputError: the folder, or one in it, does not exist or cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "is not a folder" if folder.exists() else "not found"
        raise InputError(f"{folder}: {what} {found}")
    walk = _Walk(folder, tuple(ending.lower() for ending in endings) if endings is not None else None, deep)
    walk.run()
    left_out = {reason: sorted(walk.left_out[reason]) for reason in Reason if reason in walk.left_out}
    return FolderFiles(folder, sorted(walk.names), left_out)


def is_utf8(name: str) -> bool:
    """Whether a name can be written to a file; Python reads names of other encodings with surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


_Identity = tuple[int, int]  # device and inode


class _Walk:
    """Lists folders under their own names first, then those behind links."""

    def __init__(self, folder: Path, endings: tuple[str, ...] | None, deep: bool) -> None:
        self.folder, self.endings, self.deep = folder, endings, deep
        self.names: list[str] = []
        self.left_out: dict[Reason, list[str]] = {}

    def run(self) -> None:
        """List everything.

        What a link leads to is listed once per link of the folder itself, so that the number of names is
        bounded by links times folders, however the folders link each other.
        """
        own: set[_Identity] = set()
        around = self._around("")
        for link in self._descend("", own):
            seen, pending = set(own), [(link, around)]
            while pending:
                name, outer = pending.pop(0)
                if self._identity(name) in seen | outer:
                    self._leave_out(Reason.LOOP, name + "/")
                else:
                    inner = outer | self._around(name)
                    pending += [(found, inner) for found in self._descend(name, seen)]

    def _descend(self, start: str, seen: set[_Identity]) -> list[str]:
        """List a folder and its subfolders, and add them to `seen`; returns the links to folders in it."""
        folders = [start]
        links: list[str] = []
        while folders:
            inside = folders.pop()
            identity = self._identity(inside)
            if identity in seen:
                self._leave_out(Reason.LOOP, inside + "/")
                continue
            seen.add(identity)
            for name, is_link in self._subfolders(inside):
                (links if is_link else folders).append(name)
        return links

    def _subfolders(self, inside: str) -> Iterator[tuple[str, bool]]:
        """Adds the files of one folder; yields its subfolders, and whether each is a link."""
        try:
            with os.scandir(self.folder / inside) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"{self.folder / inside}: folder cannot be read: {error.strerror}") from error
        for entry in found:
            name = f"{inside}/{entry.name}" if inside else entry.name
            is_folder = _is(entry.is_dir)
            if reason := self._reason(entry, is_folder):
                self._leave_out(reason, name + "/" * is_folder)
            elif is_folder:
                if self.deep:
                    yield name, entry.is_symlink()
            else:
                self.names.append(name)

    def _reason(self, entry: os.DirEntry[str], is_folder: bool) -> Reason | None:
        lower = entry.name.lower()
        if entry.name.startswith("."):
            return Reason.HIDDEN
        if lower in (TOOL_FOLDERS if is_folder else TOOL_FILES):
            return Reason.TOOL
        if is_folder:
            return None
        if not os.path.exists(entry.path):
            return Reason.BROKEN  # of any type: it may have been a folder
        if self.endings is not None and not lower.endswith(self.endings):
            return Reason.TYPE
        return None if _is(entry.is_file) else Reason.SPECIAL

    def _around(self, inside: str) -> set[_Identity]:
        """The folders that contain this one."""
        real = Path(os.path.realpath(self.folder / inside))
        return {_identity_of(parent) for parent in real.parents}

    def _identity(self, inside: str) -> _Identity:
        return _identity_of(self.folder / inside)

    def _leave_out(self, reason: Reason, name: str) -> None:
        self.left_out.setdefault(reason, []).append(name)


def _identity_of(folder: Path) -> _Identity:
    try:
        found = os.stat(folder)
    except OSError as error:
        raise InputError(f"{folder}: folder cannot be read: {error.strerror}") from error
    return found.st_dev, found.st_ino


def _is(test: Callable[[], bool]) -> bool:
    """The result of a test of a folder's entry; false where a link leads in a circle."""
    try:
        return test()
    except OSError:
        return False
