"""Files in folders of the user: which ones count, and which ones are left out, with the reason.

Every command that reads a folder of images, labels or predictions lists it here, so that all of them agree.
"""

from __future__ import annotations

import enum
import os
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from kmax.errors import InputError

# Folders and files of operating systems, storage devices and tools, in small letters; hidden ones are left
# out by their first dot.
TOOL_FOLDERS = {
    "@eadir",
    "#recycle",
    "@recycle",
    "@recently-snapshot",
    "@tmp",
    "__macosx",
    "__pycache__",
    "$recycle.bin",
    "lost+found",
    "system volume information",
}
TOOL_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}


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

    def one_by_stem(self, what: str) -> dict[str, str]:
        """Names by name without suffix.

        Raises:
            InputError: two files differ in their suffix only; `what` says what they are.
        """
        stems = self.by_stem()
        faults = [
            f"{self.folder}: {' and '.join(names)} have one name: which of them is the {what}? "
            "Keep one of them in this folder"
            for names in stems.values()
            if len(names) > 1
        ]
        if faults:
            raise InputError(faults)
        return {stem: names[0] for stem, names in stems.items()}

    def notice(self, except_for: Collection[Reason] = ()) -> str | None:
        """One line with the numbers of what was left out and why; None if that is nothing."""
        parts = [
            f"{len(names)} {reason.value} (first: {names[0]!r})"
            for reason, names in self.left_out.items()
            if reason not in except_for
        ]
        return f"{self.folder}: left out: {', '.join(parts)}" if parts else None


def list_files(
    folder: Path, endings: Collection[str] | None = None, what: str = "folder", *, deep: bool = True
) -> FolderFiles:
    """List the files of a folder, at any depth.

    Links to folders are followed; a link to a folder that is listed under its own name, or that contains the
    link, is not. Hidden files and folders, and those of operating systems and tools, are left out.

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


_Identity = tuple[int, int]  # device and inode


class _Walk:
    """Lists folders under their own names first, then those behind links."""

    def __init__(self, folder: Path, endings: tuple[str, ...] | None, deep: bool) -> None:
        self.folder, self.endings, self.deep = folder, endings, deep
        self.names: list[str] = []
        self.left_out: dict[Reason, list[str]] = {}
        self._listed: set[_Identity] = set()
        self._links: list[str] = []

    def run(self) -> None:
        """List everything."""
        self._descend("", self._links.append)
        for link in self._links:
            identity = self._identity(link)
            if identity in self._listed:
                self._leave_out(Reason.LOOP, link + "/")
            else:
                self._follow(link, frozenset([identity]))

    def _descend(self, start: str, on_link: Callable[[str], None]) -> None:
        folders = [start]
        while folders:
            inside = folders.pop()
            self._listed.add(self._identity(inside))
            for name, is_link in self._subfolders(inside):
                if is_link:
                    on_link(name)
                else:
                    folders.append(name)

    def _follow(self, inside: str, above: frozenset[_Identity]) -> None:
        """List a folder behind a link; `above`: it and the folders that lead to it."""
        for name, _ in self._subfolders(inside):
            identity = self._identity(name)
            if identity in above or identity in self._listed:
                self._leave_out(Reason.LOOP, name + "/")
            else:
                self._follow(name, above | {identity})

    def _subfolders(self, inside: str) -> Iterator[tuple[str, bool]]:
        """Adds the files of one folder; yields its subfolders, and whether each is a link."""
        try:
            with os.scandir(self.folder / inside) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"{self.folder / inside}: folder cannot be read: {error.strerror}") from error
        for entry in found:
            name = (PurePosixPath(inside) / entry.name).as_posix()
            try:
                mode = entry.stat().st_mode
            except OSError:
                mode = 0
            is_folder = stat.S_ISDIR(mode)
            if reason := self._reason(entry.name, mode):
                self._leave_out(reason, name + "/" * is_folder)
            elif is_folder:
                if self.deep:
                    yield name, entry.is_symlink()
            else:
                self.names.append(name)

    def _reason(self, name: str, mode: int) -> Reason | None:
        lower = name.lower()
        if name.startswith("."):
            return Reason.HIDDEN
        if lower in TOOL_FILES or (lower in TOOL_FOLDERS and stat.S_ISDIR(mode)):
            return Reason.TOOL
        if stat.S_ISDIR(mode):
            return None
        if self.endings is not None and not lower.endswith(self.endings):
            return Reason.TYPE
        if mode == 0:
            return Reason.BROKEN
        return None if stat.S_ISREG(mode) else Reason.SPECIAL

    def _identity(self, inside: str) -> _Identity:
        try:
            found = os.stat(self.folder / inside)
        except OSError as error:
            raise InputError(f"{self.folder / inside}: folder cannot be read: {error.strerror}") from error
        return found.st_dev, found.st_ino

    def _leave_out(self, reason: Reason, name: str) -> None:
        self.left_out.setdefault(reason, []).append(name)
