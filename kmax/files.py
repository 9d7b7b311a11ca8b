"""Atomic writing (temporary name, fsync, rename), digests, and locks that end with their process."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kmax.errors import InputError

# Errors of disks and permissions rather than of this program.
DISK_ERRORS = {
    errno.ENOSPC: "the disk is full: free some space and try again",
    errno.EDQUOT: "the disk quota is exceeded: free some space and try again",
    errno.EFBIG: "the file is larger than the system allows",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "input/output error of the disk",
    errno.ESTALE: "the network file system lost the file",
}
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # errors of file systems without locks


def cannot_write(path: Path, error: OSError) -> InputError:
    """The error of a file or folder that cannot be written: where, and why."""
    reason = DISK_ERRORS.get(error.errno or 0) or error.strerror or str(error)
    return InputError(f"{path}: cannot be written: {reason}")


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Report errors of writing as one line, with the file that the system names, else with `path`.

    Raises:
        InputError: the disk is full, faulty or read-only, or there is no permission.
    """
    try:
        yield
    except OSError as error:
        raise cannot_write(Path(error.filename2 or error.filename or path), error) from error


def require_writable(folder: Path, advice: str | None = None, output: Path | None = None) -> None:
    """Check before long work that files can be created in a folder, which may not exist yet.

    Args:
        folder: to check; a missing one is not created.
        advice: what to do; None: to make the folder below the project a link to another one.
        output: the file in it that is to be written, for errors; None: the folder itself.

    Raises:
        InputError: it, or the folder that it would be created in, cannot be written.
    """
    existing = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if not existing.is_dir():
        raise InputError(f"{output or folder}: cannot be written: {existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        read_only = os.statvfs(existing).f_flag & os.ST_RDONLY
        number = errno.EROFS if read_only else errno.EACCES
        advice = advice or f"make '{folder.parts[0]}' a link to a folder that can be written"
        reason = DISK_ERRORS[number] if output is None else f"{existing}: {DISK_ERRORS[number]}"
        raise InputError(f"{output or folder}: cannot be written: {reason}; {advice}")


def new_mode(mode: int = 0o666) -> int:
    """The mode of a new file: `mode` without what the user's umask excludes."""
    return mode & ~_umask()


def _umask() -> int:
    """The umask of this process; where /proc does not show it, it can only be read by replacing it."""
    with contextlib.suppress(OSError, StopIteration), open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("Umask:")).split()[1], 8)
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and renamed to `path`.

    Raises:
        InputError: the folder cannot be written or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.fchmod(handle, new_mode())
        os.close(handle)
    except OSError as error:
        raise cannot_write(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path, pattern: str = "*") -> None:
    """Remove the temporary files and folders that killed processes left while writing atomically.

    Args:
        folder: the folder of the files or folders that were being written.
        pattern: glob pattern of their names; no running process may be writing one of them.
    """
    for suffix in ("tmp", "old"):
        for path in folder.glob(f".{pattern}.*.{suffix}"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):  # such as one of another user
                    path.unlink()


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` atomically as indented JSON with sorted keys; NaN is an error (write null)."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path, what: str) -> Any:
    """Read JSON; `what` names the file's role in the error.

    Raises:
        InputError: missing, unreadable or not JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: {what} not found") from None
    except (OSError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InputError(f"{path}: {what} cannot be read as JSON: {error}") from error


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; on success it is renamed to `path`.

    An existing `path` is replaced; until the rename it is unchanged.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        temporary.chmod(new_mode(0o777) | temporary.stat().st_mode & stat.S_ISGID)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield temporary
        replace_folder(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(source: Path, path: Path) -> None:
    """Rename the folder `source` to `path`; an existing `path` is removed after the exchange."""
    if path.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
        os.replace(path, old / path.name)
        os.replace(source, path)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(source, path)


def move_folder(source: Path, path: Path) -> None:
    """Like `replace_folder`, but also works across file systems.

    Raises:
        InputError: `path` cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if _same_device(source, path.parent):
            replace_folder(source, path)
        else:
            with atomic_folder(path) as temporary:
                copy_folder(source, temporary)
    except OSError as error:
        raise cannot_write(path, error) from error


def copy_folder(source: Path, target: Path) -> None:
    """Copy all files of a folder into another one, which may exist; the first error ends it."""
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)


def _same_device(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    return file_digest(path, "sha256")


def file_digest(path: Path, kind: str) -> str:
    """Hex digest of a file's bytes; `kind` is the name of a hashlib algorithm."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def digest(value: Any) -> str:
    """Hex SHA-256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@contextlib.contextmanager
def exclusive_lock(path: Path, held_message: str, wait: bool = False) -> Iterator[None]:
    """Hold a kernel file lock (flock) on `path`; the kernel releases it when the process ends.

    Users of a shared folder may lock one file, whoever created it.

    Raises:
        InputError: with `held_message`, when another process holds it and `wait` is false; the file cannot be
            created; or its file system does not support locks.
    """
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InputError(held_message) from None
    except OSError as error:
        os.close(descriptor)
        if error.errno not in NO_LOCKS:
            raise cannot_write(path, error) from error
        raise InputError(
            f"{path}: the file system does not support file locks ({error.strerror}): mount it with "
            "support for flock, or use a folder on another file system"
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    """Open or create a lock file.

    An existing one is opened without O_CREAT, which Linux refuses for files of others in folders such as /tmp
    (fs.protected_regular). If it may not be written, it is opened for reading, which is enough for a lock.
    """
    try:
        return os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        return os.open(path, os.O_RDONLY)
