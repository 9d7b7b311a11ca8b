"""Writing what a prepared dataset says of itself: panoptic JSONs, a CSV of files per split, the manifest."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from kmax.config import Category
from kmax.data.datasets import MANIFEST_VERSION
from kmax.data.prepare.journal import Journal
from kmax.files import digest, sha256, write_json

COLUMNS = [
    "file_name",
    "panoptic_png",
    "width",
    "height",
    "segments",
    "crowd_segments",
    "image_bytes",
    "image_sha256",
    "png_sha256",
    "digest",
]


def write_split(
    folder: Path, name: str, images_dir: str, journal: Journal, categories: list[Category]
) -> dict[str, Any]:
    """Write `panoptic_<name>.json` and `files_<name>.csv`, a row at a time.

    Returns:
        The split's entry in the manifest.
    """
    json_path, csv_path = folder / f"panoptic_{name}.json", folder / f"files_{name}.csv"
    segments = crowds = 0
    with open(json_path, "w", encoding="utf-8") as stream:
        listed = [category.model_dump() for category in categories]
        stream.write('{"categories":')
        _dump(stream, [{**category, "isthing": int(category["isthing"])} for category in listed])
        stream.write(',"images":[')
        for i, row in enumerate(journal.rows()):
            stream.write(",\n" if i else "\n")
            _dump(stream, asdict(row.image))
        stream.write('],"annotations":[')
        for i, row in enumerate(journal.rows()):
            stream.write(",\n" if i else "\n")
            annotation = asdict(row.annotation)
            annotation["segments_info"] = [
                {**entry, "iscrowd": int(entry["iscrowd"])} for entry in annotation.pop("segments")
            ]
            _dump(stream, annotation)
        stream.write("]}\n")
    with open(csv_path, "w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(COLUMNS)
        for row in journal.rows():
            image, found = row.image, row.annotation.segments
            crowd = sum(segment.iscrowd for segment in found)
            segments, crowds = segments + len(found), crowds + crowd
            files = [image.file_name, row.annotation.file_name, image.width, image.height, len(found), crowd]
            table.writerow([*files, row.image_bytes, row.image_sha256, row.png_sha256, row.digest])
    return {
        "num_images": len(journal),
        "num_segments": segments,
        "num_crowd_segments": crowds,
        "images_dir": images_dir,
        "panoptic_json": json_path.name,
        "panoptic_dir": f"panoptic_{name}",
        "files": csv_path.name,
        "digest": digest([sha256(json_path), sha256(csv_path)]),
    }


def write_manifest(
    folder: Path, dataset: str, categories: list[Category], splits: dict[str, dict[str, Any]]
) -> None:
    """Write `manifest.json`, with the digest of the whole."""
    manifest: dict[str, Any] = {
        "version": MANIFEST_VERSION,
        "dataset": dataset,
        "categories": [category.model_dump() for category in categories],
        "splits": splits,
    }
    manifest["digest"] = digest(manifest)
    write_json(folder / "manifest.json", manifest)


def _dump(stream: IO[str], value: Any) -> None:
    stream.write(json.dumps(value, sort_keys=True, separators=(",", ":")))
