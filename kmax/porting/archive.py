"""Checkpoints inside `.tar.gz` archives, unpacked so that nothing can land elsewhere."""

from __future__ import annotations

import re
import shutil
import tarfile
import zlib
from pathlib import Path

from kmax.errors import InputError

PART = re.compile(r"[^/\\\x00]{1,200}\.(index|data-\d{5}-of-\d{5})")
MAX_BYTES = 16 * 2**30


def unpack_checkpoint(archive: Path, folder: Path, where: str) -> None:
    """Unpack the files of checkpoints (`*.index`, `*.data-...`) into folders below `folder`.

    Files of one folder of the archive go into one folder, whatever it is called: no name of a folder is used.
    Links, devices and all other files are left in the archive.

    Args:
        archive: a tar file, compressed or not.
        folder: empty.
        where: what the user calls the archive.

    Raises:
        InputError: not a tar file, damaged, without checkpoint, or more than 16 GiB.
    """
    folders: dict[str, Path] = {}
    left = MAX_BYTES
    try:
        with tarfile.open(archive, mode="r|*") as tar:
            for member in tar:
                parent, _, name = member.name.rpartition("/")
                if not member.isreg() or not PART.fullmatch(name):
                    continue
                left -= member.size
                if left < 0:
                    raise InputError(
                        f"{where}: unpacks to more than {MAX_BYTES} bytes, which no checkpoint has"
                    )
                target = folders.setdefault(parent, folder / str(len(folders)))
                target.mkdir(exist_ok=True)
                source = tar.extractfile(member)
                assert source is not None  # a regular file has content
                with open(target / name, "wb") as stream:
                    shutil.copyfileobj(source, stream, 2**20)
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
        raise InputError(f"{where}: cannot be unpacked: {error}") from error
    if not folders:
        raise InputError(
            f"{where}: no TensorFlow checkpoint inside: an *.index and its data files are wanted"
        )
