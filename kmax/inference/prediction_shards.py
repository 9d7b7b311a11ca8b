"""Unfinished predictions: shards of a few images, each a folder that appears by rename when it is complete.

A shard is the images of one batch, and batches depend only on the dataset's order. So neither the number of
ranks nor an interruption changes a batch, and the output is bit-identical. `shard.json` lists each
file of its folder with its SHA-256; a corrupt shard is predicted again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmax.data.formats.coco_panoptic import Image
from kmax.errors import InputError
from kmax.files import atomic_folder, copy_folder, read_json, sha256, write_json

RECORD = "shard.json"
INSTANCES = "instances.json"
# Folders that shards and the published folder have in common; their files have distinct names.
FOLDERS = ("panoptic", "pictures", "instances", "semantic")


@dataclass(frozen=True)
class Shard:
    """One batch of images, and the folder of its predictions."""

    number: int
    images: list[Image]
    folder: Path

    def read(self) -> list[dict[str, Any]] | None:
        """The annotations of its images, in COCO panoptic format; None if it is not finished.

        A corrupt shard is reported, and treated as unfinished.
        """
        if not self.folder.exists():
            return None
        try:
            record = read_json(self.folder / RECORD, "record of the shard")
            listed: dict[str, str] = record["files"]
            annotations: list[dict[str, Any]] = record["annotations"]
            corrupt = [name for name, digest in listed.items() if sha256(self.folder / name) != digest]
        except (InputError, OSError, KeyError, TypeError, AttributeError):
            corrupt = [RECORD]
        if corrupt:
            print(f"{self.folder / corrupt[0]}: corrupt or missing; predicting it again", file=sys.stderr)
            return None
        return annotations

    @contextmanager
    def write(self, annotations: list[dict[str, Any]]) -> Iterator[Path]:
        """Yield an empty folder for the files; it becomes the shard at the end.

        Args:
            annotations: to be filled inside of the block.
        """
        with atomic_folder(self.folder) as folder:
            yield folder
            files = {
                path.relative_to(folder).as_posix(): sha256(path)
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            }
            write_json(folder / RECORD, {"annotations": annotations, "files": files})


def cut_shards(images: list[Image], size: int, work: Path) -> list[Shard]:
    """Shards of `size` images in the dataset's order; the last may be smaller."""
    starts = range(0, len(images), size)
    return [
        Shard(number, images[start : start + size], work / f"{number:06d}")
        for number, start in enumerate(starts)
    ]


def gather(shards: Iterable[Shard], folder: Path) -> None:
    """Copy the files of finished shards into one folder, except the lists of instances."""
    for shard in shards:
        for name in FOLDERS:
            if (shard.folder / name).exists():
                copy_folder(shard.folder / name, folder / name)


def join_instances(shards: Iterable[Shard], path: Path) -> None:
    """Write the lists of instances of finished shards as one, with one shard in memory at a time."""
    with open(path, "w", encoding="utf-8") as stream:
        before = "[\n"
        for shard in shards:
            for entry in read_json(shard.folder / INSTANCES, "instances of the shard"):
                stream.write(before + json.dumps(entry, sort_keys=True, separators=(",", ":")))
                before = ",\n"
        stream.write("\n]\n" if before == ",\n" else "[]\n")
