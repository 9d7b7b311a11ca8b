"""The download stage: download or find the raw files of a dataset, and record them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from kmax import paths
from kmax.data.dataset_file import Dataset, load_dataset, open_layout, raw_root, require_raw_root
from kmax.data.download.listed_file import KnownDigests
from kmax.data.download.obtain import obtain
from kmax.data.faults import Faults
from kmax.data.layouts.layout import RawFiles
from kmax.errors import InputError
from kmax.files import digest, exclusive_lock, read_json, remove_leftovers, require_writable, write_json


def download(name: str) -> Path:
    """Download the files that the dataset file lists, check that all others exist, write the raw manifest.

    The manifest records name, size and SHA-256 of every raw file (for generated datasets: what they are
    generated from). It contains no absolute path.

    Returns:
        `data/raw/<dataset>/manifest.json`.

    Raises:
        InputError: unknown dataset, files missing, a download that failed or whose checksum is wrong.
    """
    dataset = load_dataset(name)
    manifest = paths.raw_manifest(name)
    require_writable(manifest.parent)
    lock = manifest.parent.parent / f".{name}.lock"
    with exclusive_lock(lock, f"{manifest.parent}: another process is downloading '{name}'; wait for it"):
        remove_leftovers(manifest.parent, manifest.name)
        remove_leftovers(manifest.parent.parent, f".{name}.*.json")
        if isinstance(dataset.source, RawFiles):
            value = _obtain_and_record(dataset, dataset.source, manifest)
        else:
            value = dataset.source.record()
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
    if isinstance(dataset.source, RawFiles):
        if not isinstance(record.get("files"), dict):
            raise InputError(f"{path}: not a raw manifest of this dataset; {advice}")
    elif record != {"dataset": dataset.dataset, **dataset.source.record()}:
        raise InputError(f"{path}: older than {paths.dataset_file(dataset.dataset)}; {advice}")
    return record


def raw_files(dataset: Dataset, root: Path, faults: list[str]) -> Iterator[Path]:
    """Every file that preparing a dataset reads, whether or not it exists.

    Args:
        faults: receives a line for each JSON or folder that is missing or unreadable.
    """
    assert isinstance(dataset.source, RawFiles)
    reader = open_layout(dataset, root)
    yield from reader.shared_files
    for name in dataset.source.split_names():
        try:
            for record in reader.split(name, Faults()).records:
                yield record.images_dir / record.file_name
                yield from record.label_files
        except InputError as error:
            faults += error.faults


def _obtain_and_record(dataset: Dataset, source: RawFiles, manifest: Path) -> dict[str, Any]:
    """Download the files listed by URL, then measure every file of every split."""
    root = raw_root(dataset)
    record = read_json(manifest, "raw manifest") if manifest.exists() else {}
    known = record if _is_raw_manifest(record) else {"files": {}}
    digests = KnownDigests(manifest.parent.parent / f".{dataset.dataset}.digests.json", root)
    archives = known.get("archives", {})
    archives = archives | obtain(dataset, source.files, root, digests, known["files"] | archives)
    seen = manifest.parent.parent / f".{dataset.dataset}.seen.json"
    if archives == known.get("archives", {}) and _is_unchanged(seen, source, root, known, digests):
        return known
    require_raw_root(dataset)
    faults: list[str] = []
    names = {path.relative_to(root).as_posix() for path in raw_files(dataset, root, faults)}
    missing = (str(root / name) for name in sorted(names) if not (root / name).is_file())
    faults += [f"{path}: file not found" for path in missing if not any(path in fault for fault in faults)]
    if faults:
        raise InputError(faults)
    listed = sorted(names | {remote.path for remote in source.files if not remote.unpack})
    measured = digests.of(listed, f"checksums of {dataset.dataset}")
    files = {
        name: {"bytes": (root / name).stat().st_size, "sha256": digest} for name, digest in measured.items()
    }
    digests.save()
    value: dict[str, Any] = {"kind": dataset.source.kind, "folder": source.folder, "files": files}
    if archives:
        value["archives"] = archives
    write_json(seen, _seen(source, root, {"dataset": dataset.dataset, **value}))
    return value


def _is_raw_manifest(value: Any) -> bool:
    """Whether a JSON value is a manifest of raw files."""
    parts = [value.get("files"), value.get("archives", {})] if isinstance(value, dict) else [None]
    return all(isinstance(part, dict) and all(isinstance(e, dict) for e in part.values()) for part in parts)


def _is_unchanged(
    path: Path, source: RawFiles, root: Path, record: dict[str, Any], digests: KnownDigests
) -> bool:
    """Whether the manifest is still valid, according to sizes and modification times."""
    try:
        seen = read_json(path, "note on the last download") if path.exists() else None
    except InputError:
        return False
    if seen != _seen(source, root, record):
        return False
    return digests.agree({name: entry["sha256"] for name, entry in record["files"].items()})


def _seen(source: RawFiles, root: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The inputs that determine the files of a dataset: its description, and the folders that list them."""
    folders = {folder for name in record["files"] for folder in PurePosixPath(name).parents}
    return {
        "source": digest(source.model_dump()),
        "record": digest(record),
        "folders": {
            str(folder): (root / folder).stat().st_mtime_ns if (root / folder).is_dir() else None
            for folder in folders
            if folder.parts
        },
    }
