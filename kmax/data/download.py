"""The download stage: fetch or find the raw files of a dataset, and record what they are."""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

from kmax import fetch, paths
from kmax.config import Dataset, Generated, RawFiles, RemoteFile
from kmax.data import shapes
from kmax.data.datasets import load_dataset, raw_root, require_raw_root
from kmax.data.layouts.open import raw_files
from kmax.data.parallel import map_items
from kmax.errors import InputError
from kmax.files import exclusive_lock, read_json, sha256, write_json, write_text


def download(name: str) -> Path:
    """Fetch the files that the dataset file lists, check that all others are there, write the raw manifest.

    The manifest records name, size and SHA-256 of every raw file (for generated datasets: what they are
    generated from). It holds no absolute path.

    Returns:
        `data/raw/<dataset>/manifest.json`.

    Raises:
        InputError: unknown dataset, files missing, a download that failed or whose checksum is wrong.
    """
    dataset = load_dataset(name)
    manifest = paths.raw_manifest(name)
    lock = manifest.parent.parent / f".{name}.lock"
    with exclusive_lock(lock, f"{manifest.parent}: another process is downloading '{name}'; wait for it"):
        if isinstance(dataset.source, Generated):
            value = _generated(dataset.source)
        else:
            value = _found(dataset, dataset.source, manifest)
        write_json(manifest, {"dataset": name, **value})
    return manifest


def raw_record(dataset: Dataset) -> dict[str, Any]:
    """The raw manifest of a dataset, as `download` wrote it.

    Raises:
        InputError: it is missing, or was written for another description of the dataset.
    """
    path = paths.raw_manifest(dataset.dataset)
    advice = f"run: kmax data download {dataset.dataset}"
    if not path.exists():
        raise InputError(f"{path}: not found; {advice}")
    record = read_json(path, "raw manifest")
    if not isinstance(record, dict) or record.get("kind") != dataset.source.kind:
        raise InputError(f"{path}: not a raw manifest of this dataset; {advice}")
    if isinstance(dataset.source, Generated):
        if record != {"dataset": dataset.dataset, **_generated(dataset.source)}:
            raise InputError(f"{path}: older than {paths.dataset_file(dataset.dataset)}; {advice}")
    elif not isinstance(record.get("files"), dict):
        raise InputError(f"{path}: not a raw manifest of this dataset; {advice}")
    return record


def _generated(source: Generated) -> dict[str, Any]:
    return {**source.model_dump(), "generator_version": shapes.GENERATOR_VERSION}


def _found(dataset: Dataset, source: RawFiles, manifest: Path) -> dict[str, Any]:
    """Fetch what is listed by URL, then measure every file of every split."""
    root = raw_root(dataset)
    record = read_json(manifest, "raw manifest") if manifest.exists() else {}
    known = record.get("files", {}) if isinstance(record, dict) else {}
    for remote in source.files:
        if Path(remote.path).is_absolute() or ".." in Path(remote.path).parts:
            raise InputError(f"{paths.dataset_file(dataset.dataset)}: path {remote.path!r} leaves the folder")
        _fetch(remote, root, known.get(remote.path))
    require_raw_root(dataset)
    faults: list[str] = []
    names = {path.relative_to(root).as_posix() for path in raw_files(dataset, root, faults)}
    missing = (str(root / name) for name in sorted(names) if not (root / name).is_file())
    faults += [f"{path}: file not found" for path in missing if not any(path in fault for fault in faults)]
    if faults:
        raise InputError(faults)
    listed = sorted(names | {remote.path for remote in source.files if not remote.unpack})
    measured = map_items(partial(_measure, root), listed, f"checksums of {dataset.dataset}")
    return {
        "kind": dataset.source.kind,
        "folder": source.folder,
        "files": dict(zip(listed, measured, strict=True)),
    }


def _measure(root: Path, name: str) -> dict[str, int | str]:
    path = root / name
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def _fetch(remote: RemoteFile, root: Path, known: dict[str, Any] | None) -> None:
    """Download one file unless it is there; check it against the stated or the first recorded checksum."""
    path = root / remote.path
    wanted = remote.sha256 or (known or {}).get("sha256")
    if not path.exists():
        fetch.download(remote.url, path, size=remote.bytes, sha256=wanted)
    elif wanted is not None and sha256(path) != wanted:
        raise InputError(f"{path}: SHA-256 is not {wanted}; move the file away to download it again")
    if remote.unpack:
        _unpack(path, root)


def _unpack(archive: Path, root: Path) -> None:
    """Unpack a zip or tar beside nothing but `root`; a marker tells that it was finished."""
    marker = archive.with_name(f".{archive.name}.unpacked")
    state = f"{archive.stat().st_size} {archive.stat().st_mtime_ns}"
    if marker.exists() and marker.read_text() == state:
        return
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                for member in zipped.infolist():
                    parts = Path(member.filename).parts
                    if os.path.isabs(member.filename) or ".." in parts or (member.external_attr >> 28) == 0xA:
                        raise InputError(
                            f"{archive}: {member.filename} would leave the folder; nothing unpacked"
                        )
                needed = sum(member.file_size for member in zipped.infolist())
                if needed > shutil.disk_usage(root).free:
                    raise InputError(f"{archive}: needs {needed} bytes to unpack, more than is free")
                zipped.extractall(root)
        else:
            with tarfile.open(archive) as tarred:
                tarred.extractall(root, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise InputError(f"{archive}: cannot be unpacked: {error}") from error
    write_text(marker, state)
