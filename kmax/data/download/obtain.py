"""The files of a dataset that are listed by URL: downloaded, verified and unpacked, or found on disk.

Below the data root, this module keeps its own files in `.downloads/`: partial downloads, archives until they
are unpacked, and for each archive a note of its content. Files outside of it are complete.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from kmax import fetch, paths
from kmax.data.dataset_file import Dataset
from kmax.data.download.listed_file import (
    OWN_FOLDER,
    OWN_MANIFEST,
    KnownDigests,
    ListedFile,
    count_files,
    size_of,
)
from kmax.data.layouts.layout import RemoteFile
from kmax.errors import InputError
from kmax.fetch.archives import Contents, unpack
from kmax.files import exclusive_lock, remove_leftovers, require_writable, write_errors, write_json
from kmax.progress import Transfers

AT_A_TIME = 4


def obtain(
    dataset: Dataset,
    listed: Sequence[RemoteFile],
    root: Path,
    digests: KnownDigests,
    recorded: dict[str, Any],
) -> dict[str, dict[str, int | str]]:
    """Make sure that all listed files, or their content, exist below `root`.

    A file is downloaded only if neither it nor its content exists. After unpacking, archives
    downloaded by this project are removed; archives that a user put there are kept.

    Args:
        recorded: path -> {bytes, sha256} of the first download, for files without a published checksum.

    Returns:
        The same for the archives of this call without a published checksum.

    Raises:
        InputError: a file must be downloaded by hand, cannot be downloaded or unpacked, or has a wrong
            checksum (one line each, after all other files were handled).
    """
    files = [ListedFile(_checked(dataset, remote), root) for remote in listed]
    found: dict[str, dict[str, int | str]] = {}
    faults: list[str] = []

    def settle(file: ListedFile) -> None:
        try:
            found.update(_settle(file, digests, recorded.get(file.remote.path)))
        except InputError as error:
            faults.extend(error.faults)

    try:
        for file in (file for file in files if file.is_done()):
            settle(file)
        todo = [file for file in files if not file.is_done()]
        if todo:
            _require_parent(dataset, root)
            require_writable(root / OWN_FOLDER, _advice(todo))
            held = f"{root}: another process is downloading '{dataset.dataset}' there; wait for it"
            with exclusive_lock(root / OWN_FOLDER / "lock", held):
                for folder in {file.download_path.parent for file in todo}:
                    remove_leftovers(folder)
                missing = [file for file in todo if file.archive is None and not file.is_unpacked()]
                for file in (file for file in todo if file not in missing):
                    settle(file)
                if by_hand := [file for file in missing if file.remote.url is None]:
                    faults.append(_ask_for(dataset, by_hand, root))
                elif missing:
                    _announce(dataset, missing, root)
                    for file, error in _fetch_all(missing, recorded):
                        if isinstance(error, InputError):
                            faults.extend(error.faults)
                        elif error is not None:
                            raise error
                        else:
                            file.remember(digests)
                            settle(file)
    finally:
        digests.save()
    if faults:
        raise InputError(faults)
    return found


def _checked(dataset: Dataset, remote: RemoteFile) -> RemoteFile:
    for name in (remote.path, *remote.inside, *remote.holds):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            where = paths.dataset_file(dataset.dataset)
            raise InputError(f"{where}: path {name!r} leaves the folder")
    return remote


def _require_parent(dataset: Dataset, root: Path) -> None:
    """Reject a root whose parent is missing: the folder has moved, or its disk is not mounted."""
    if not root.parent.is_dir():
        raise InputError(
            f"{root.parent}: folder not found; mount its disk or create it, or correct KMAX_DATA_ROOT or "
            f"'root' in {paths.dataset_file(dataset.dataset)}"
        )


def _advice(todo: list[ListedFile]) -> str:
    """What to do where files are missing that cannot be stored."""
    first = (
        f"{todo[0].remote.path} and {len(todo) - 1} more are"
        if len(todo) > 1
        else f"{todo[0].remote.path} is"
    )
    return (
        f"{first} not complete there: have the owner of the folder run this command, or set KMAX_DATA_ROOT "
        "to a folder that can be written"
    )


def _ask_for(dataset: Dataset, files: list[ListedFile], root: Path) -> str:
    """The line that explains which files must be downloaded by hand."""
    names = ", ".join(
        f"{file.remote.path}{f' ({file.remote.bytes} bytes)' if file.remote.bytes else ''}" for file in files
    )
    todo = (dataset.by_hand or "put them there by hand").replace("{folder}", str(root.absolute()))
    return (
        f"{root}: {names} of dataset '{dataset.dataset}' not found; they cannot be downloaded automatically: "
        f"{todo}; then run: kmax data download {dataset.dataset} (to store the data elsewhere, set "
        "KMAX_DATA_ROOT for every command)"
    )


def _announce(dataset: Dataset, files: list[ListedFile], root: Path) -> None:
    """Report what will be downloaded; an error if the disk has no space for archives and content."""
    archives = sum(_bytes_left(file) for file in files)
    content = sum(file.remote.bytes or 0 for file in files if file.remote.unpack)
    existing = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    least = "at least " if any(file.remote.bytes is None for file in files) else ""
    sizes = f"{least}{archives / 1e9:.2f} GB to download, and about {content / 1e9:.2f} GB unpacked"
    if archives + content > free:
        raise InputError(
            f"{root}: dataset '{dataset.dataset}' needs {sizes}, but {free / 1e9:.2f} GB are free there; "
            "free some, or set KMAX_DATA_ROOT to a folder on a larger disk"
        )
    print(f"{dataset.dataset}: {len(files)} files for {root}: {sizes}", file=sys.stderr, flush=True)


def _bytes_left(file: ListedFile) -> int:
    """Bytes of a file that are still to be downloaded, 0 if its size is unknown."""
    present = size_of(file.download_path.with_name(f".{file.download_path.name}.part")) or 0
    return max(0, (file.remote.bytes or 0) - present)


def _settle(file: ListedFile, digests: KnownDigests, known: dict[str, Any] | None) -> dict[str, Any]:
    """Verify an existing file and unpack it if that is not done; returns what to record."""
    remote, path = file.remote, file.archive
    if path is None:
        note = file.read_note()
        if note is not None:
            shutil.rmtree(file.work, ignore_errors=True)
        return {} if note is None else _to_record(file, note)
    note = _verify(file, path, digests, known)
    own = path == file.download_path
    with write_errors(path):
        if own:
            path.with_name(f".{path.name}.part.json").unlink(missing_ok=True)  # left by a killed process
        if not remote.unpack:
            if own:
                file.place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, file.place)
            return {}
        if not file.is_unpacked():
            print(f"unpacking {path}", file=sys.stderr, flush=True)
            contents = Contents(
                strip=remote.strip,
                inside=remote.inside,
                only=list(remote.holds),
                reserved=(OWN_FOLDER, OWN_MANIFEST),
            )
            members = unpack(path, file.root, file.work, contents)
            _require_held(file, path)
            write_json(file.note, note | {"members": members})
        shutil.rmtree(file.work, ignore_errors=True)
        if own:
            os.sync()
            path.unlink()
    return _to_record(file, note)


def _to_record(file: ListedFile, note: dict[str, Any]) -> dict[str, dict[str, int | str]]:
    """Size and digest of an archive without a published checksum."""
    if file.remote.sha256 or file.remote.md5:
        return {}
    return {file.remote.path: {"bytes": note["bytes"], "sha256": note["sha256"]}}


def _verify(
    file: ListedFile, path: Path, digests: KnownDigests, known: dict[str, Any] | None
) -> dict[str, Any]:
    """Size and digests of a file, after comparing them with the expected ones.

    Raises:
        InputError: they differ.
    """
    remote, name = file.remote, path.relative_to(file.root).as_posix()
    size = path.stat().st_size
    if remote.bytes is not None and size != remote.bytes:
        more = "complete the download" if size < remote.bytes else "move the file away"
        raise InputError(f"{path}: has {size} of {remote.bytes} bytes; {more}, and run the command again")
    note: dict[str, Any] = {"bytes": size}
    sha256 = remote.sha256 or (known or {}).get("sha256")
    stated: dict[str, str | None] = {} if remote.md5 is None else {"md5": remote.md5}
    if sha256 is not None or remote.md5 is None:
        stated["sha256"] = sha256
    for kind, digest in stated.items():
        found = digests.of([name], f"checksum of {name}", kind)[name]
        if digest not in (None, found):
            label = {"md5": "MD5", "sha256": "SHA-256"}[kind]
            again = "download it again" if remote.url else "download it again by hand"
            raise InputError(f"{path}: {label} is {found}, expected {digest}; move the file away to {again}")
        note[kind] = found
    return note


def _require_held(file: ListedFile, archive: Path) -> None:
    for name, number in file.remote.holds.items():
        if (count := count_files(file.root / name, at_most=number)) < number:
            raise InputError(f"{archive}: {count} files extracted for {name}, expected {number}")


def _fetch_all(
    files: Sequence[ListedFile], recorded: dict[str, Any]
) -> Iterator[tuple[ListedFile, BaseException | None]]:
    """Download files, a few at a time; yields each file, with its error if any, when it is complete.

    Ctrl-C abandons the threads: written data is kept, and the process ends.
    """
    waiting: SimpleQueue[ListedFile] = SimpleQueue()
    done: SimpleQueue[tuple[ListedFile, BaseException | None]] = SimpleQueue()
    for file in files:
        waiting.put(file)

    def work(transfers: Transfers) -> None:
        with contextlib.suppress(Empty):
            while True:
                file = waiting.get_nowait()
                try:
                    _fetch(file, recorded, transfers)
                except BaseException as error:  # raised by the waiting thread
                    done.put((file, error))
                else:
                    done.put((file, None))

    with Transfers() as transfers:
        for _ in range(min(AT_A_TIME, len(files))):
            Thread(target=work, args=(transfers,), daemon=True).start()
        for _ in files:
            yield done.get()


def _fetch(file: ListedFile, recorded: dict[str, Any], transfers: Transfers) -> None:
    remote = file.remote
    assert remote.url is not None  # others were requested from the user before
    fetch.download(
        remote.url,
        file.download_path,
        size=remote.bytes,
        sha256=remote.sha256 or (recorded.get(remote.path) or {}).get("sha256"),
        md5=remote.md5,
        transfers=transfers,
    )
