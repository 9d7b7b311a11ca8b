"""The download stage: fetch or find the raw files of a dataset, and record what they are."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from kmax import paths
from kmax.config import Dataset, Generated, RawFiles
from kmax.data.datasets import load_dataset, raw_root, require_raw_root
from kmax.data.download.known_digests import KnownDigests
from kmax.data.download.obtain import obtain
from kmax.data.layouts.open import raw_files
from kmax.data.shapes import scenes
from kmax.errors import InputError
from kmax.files import digest, exclusive_lock, read_json, remove_leftovers, write_json


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
        remove_leftovers(manifest.parent, manifest.name)
        remove_leftovers(manifest.parent.parent, f".{name}.*.json")
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
    return {**source.model_dump(), "generator_version": scenes.GENERATOR_VERSION}


def _found(dataset: Dataset, source: RawFiles, manifest: Path) -> dict[str, Any]:
    """Obtain what is listed by URL, then measure every file of every split."""
    root = raw_root(dataset)
    record = read_json(manifest, "raw manifest") if manifest.exists() else {}
    known = record if _is_record(record) else {"files": {}}
    digests = KnownDigests(manifest.parent.parent / f".{dataset.dataset}.digests.json", root)
    archives = known.get("archives", {})
    archives = archives | obtain(dataset, source.files, root, digests, known["files"] | archives)
    seen = manifest.parent.parent / f".{dataset.dataset}.seen.json"
    if archives == known.get("archives", {}) and _as_seen(seen, source, root, known, digests):
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


def _is_record(value: Any) -> bool:
    """Whether a manifest that was read is one of raw files."""
    parts = [value.get("files"), value.get("archives", {})] if isinstance(value, dict) else [None]
    return all(isinstance(part, dict) and all(isinstance(e, dict) for e in part.values()) for part in parts)


def _as_seen(path: Path, source: RawFiles, root: Path, record: dict[str, Any], digests: KnownDigests) -> bool:
    """Whether the manifest holds, as far as sizes and times of change tell."""
    try:
        seen = read_json(path, "note on the last download") if path.exists() else None
    except InputError:
        return False
    if seen != _seen(source, root, record):
        return False
    return digests.agree({name: entry["sha256"] for name, entry in record["files"].items()})


def _seen(source: RawFiles, root: Path, record: dict[str, Any]) -> dict[str, Any]:
    """What the files of a dataset are found by: its description, and the folders that list them."""
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
