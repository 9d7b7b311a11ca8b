"""Outputs whose names the user chooses: checked before the work, so that nothing of the user's is replaced.

The rule: an output must not be an input or another output, and it replaces an existing file only if that is
an earlier output of the same command, or with `--overwrite`. Files are written under a temporary name and
renamed (`kmax.files`). Thus the other names of a file with hard links keep its old content, and an output
that is a symbolic link replaces the link, never the file that it points to.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import stat
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from kmax.errors import InputError
from kmax.files import require_writable

# Whether an existing file is an earlier output of the same command. It is called for regular files only.
IsOurs = Callable[[Path], bool]
MAX_JSON_BYTES = 64 * 2**20  # results of commands are far smaller


def require_outputs(outputs: Mapping[Path, IsOurs], inputs: Iterable[Path], overwrite: bool) -> None:
    """Reject outputs that cannot be written or would replace something else. Nothing is written.

    To be called before the work starts.

    Args:
        outputs: all files that a command will write, each with the function that recognises an earlier one.
        inputs: all files that it reads, and folders of which it reads files.
        overwrite: also replace existing files that are not recognised, except in folders of inputs.

    Raises:
        InputError: one line per fault; see `check_outputs` and `refuse_foreign`.
    """
    inputs = list(inputs)
    check_outputs(outputs, inputs)
    read = {os.path.realpath(path): path for path in inputs}
    faults: list[str] = []
    for path, is_ours in outputs.items():
        folders = [
            read[str(parent)] for parent in Path(os.path.realpath(path)).parents if str(parent) in read
        ]
        try:
            if overwrite and folders and path.is_file() and not _recognised(path, is_ours):
                raise InputError(f"{path}: is in the input folder {folders[0]}; choose another name")
            refuse_foreign(path, is_ours, overwrite)
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Reject outputs that would overwrite an input or each other.

    Names are compared by their real paths, in which links are resolved, and on file systems that ignore the
    case of letters without it. A hard link to an input is another file here: writing it by a rename leaves
    the input as it is.

    Args:
        outputs: all files that a command will write.
        inputs: all files that it reads, or that must be kept.

    Raises:
        InputError: two outputs are one file, or an output is an input.
    """
    kept = {_place(path): path for path in inputs}
    written: dict[str, Path] = {}
    faults = []
    for path in outputs:
        place = _place(path)
        if place in kept:
            faults.append(f"{path}: would overwrite the input {kept[place]}; choose another name")
        elif place in written:
            faults.append(f"{path}: is the name of two outputs (the other: {written[place]}); rename one")
        written.setdefault(place, path)
    if faults:
        raise InputError(faults)


def _place(path: Path) -> str:
    """A text that is the same for all names of a file, whether or not the file exists."""
    real = os.path.realpath(path)
    return unicodedata.normalize("NFC", real).casefold() if _ignores_case(os.path.dirname(real)) else real


@functools.lru_cache(maxsize=1024)
def _ignores_case(folder: str) -> bool:
    """Whether names in a folder that differ in the case of letters are one file.

    An entry of the folder answers this; for an empty or missing folder, its own name in the parent does.
    """
    while True:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.swapcase() != entry.name:
                    return _is_one_file(entry.path, os.path.join(folder, entry.name.swapcase()))
        parent, name = os.path.split(folder)
        if parent == folder:
            return False
        if os.path.exists(folder) and name.swapcase() != name:
            return _is_one_file(folder, os.path.join(parent, name.swapcase()))
        folder = parent


def _is_one_file(one: str, other: str) -> bool:
    try:
        return os.path.samestat(os.lstat(one), os.lstat(other))
    except OSError:
        return False


def refuse_foreign(path: Path, is_ours: IsOurs, overwrite: bool) -> None:
    """Reject an output that cannot be written, or that exists and is not an earlier output of the command.

    Args:
        path: of a file that will be written; its folder may be missing.
        is_ours: whether the existing file is an earlier output. Errors of the system mean that it is not.
        overwrite: also replace other files and links; folders and devices are never replaced.

    Raises:
        InputError: not a place for a file, or the file exists and is foreign.
    """
    path = Path(path)
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(path.with_name(f".{path.name}.12345678.tmp"))  # its temporary name may be too long
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = None
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    require_folder_of(path)
    if mode is None:
        return
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file")
    if stat.S_ISLNK(mode):
        if not overwrite:
            raise InputError(
                f"{path}: is a symbolic link to {os.readlink(path)}; give the name of the file itself, "
                "or pass --overwrite to replace the link"
            )
    elif not stat.S_ISREG(mode):
        raise InputError(f"{path}: is a device, pipe or socket; give the name of a file")
    elif not overwrite and not _recognised(path, is_ours):
        raise InputError(
            f"{path}: exists, and this command did not write it; choose another name, "
            "or pass --overwrite to replace it"
        )


def require_folder_of(path: Path) -> None:
    """Raise InputError unless the folder that contains `path` is writable, or can be made."""
    require_writable(Path(os.path.abspath(path)).parent, "choose another place", path)


def _recognised(path: Path, is_ours: IsOurs) -> bool:
    try:
        return is_ours(path)
    except OSError:
        return False


def json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one if it is anything else, or very large."""
    if path.stat().st_size > MAX_JSON_BYTES:
        return {}
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def begins_with(path: Path, start: str) -> bool:
    """Whether a file begins with this text."""
    wanted = start.encode()
    with open(path, "rb") as stream:
        return stream.read(len(wanted)) == wanted
