"""Writing a prepared dataset: a journal of finished images, panoptic JSONs, a CSV per split, the manifest.

The journal has one line per image, so that a preparation survives a kill and its memory stays constant.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from kmax.config import Category
from kmax.csv_files import csv_line
from kmax.data.datasets import MANIFEST_VERSION
from kmax.data.formats.coco_panoptic import Annotation, Image, Segment
from kmax.files import digest, sha256, write_errors, write_json

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


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """One prepared image.

    Attributes:
        position: of the image in its split.
        label_sha256: of the raw files of its labels.
    """

    position: int
    image: Image
    annotation: Annotation
    image_bytes: int
    image_sha256: str
    label_sha256: list[str]
    png_bytes: int
    png_sha256: str

    @property
    def digest(self) -> str:
        """Digest of the image, its annotation and its files."""
        return digest([asdict(self.image), asdict(self.annotation), self.image_sha256, self.png_sha256])


class Journal:
    """A JSON Lines file of prepared images; a line truncated by a kill is dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset: dict[int, int] = {}  # position -> offset of its line

    def __enter__(self) -> Journal:
        with write_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = open(self._path, "a+b")
            self._stream.seek(0)
            start = 0
            for line in self._stream:
                image = _parse_line(line)
                if image is None:
                    break
                self._offset[image.position] = start
                start += len(line)
            self._stream.truncate(start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with write_errors(self._path):  # what could not be written before is tried again here
            self._stream.close()

    def __contains__(self, position: int) -> bool:
        return position in self._offset

    def __len__(self) -> int:
        return len(self._offset)

    def read(self, position: int) -> PreparedImage:
        """An image that was added before."""
        self._stream.seek(self._offset[position])
        image = _parse_line(self._stream.readline())
        assert image is not None
        return image

    def add(self, image: PreparedImage) -> None:
        """Append an image, which then counts as finished."""
        self._offset[image.position] = self._stream.seek(0, 2)
        with write_errors(self._path):
            self._stream.write(json.dumps(asdict(image), separators=(",", ":")).encode() + b"\n")
            self._stream.flush()

    def forget(self, position: int) -> None:
        """Remove an image, so that it is prepared again."""
        del self._offset[position]

    def images(self) -> Iterator[PreparedImage]:
        """All images, in the order of the split."""
        for position in sorted(self._offset):
            yield self.read(position)


def _parse_line(line: bytes) -> PreparedImage | None:
    """None if the line was truncated by a kill."""
    if not line.endswith(b"\n"):
        return None
    try:
        value: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    annotation = value.pop("annotation")
    segments = [Segment(**{**entry, "bbox": tuple(entry["bbox"])}) for entry in annotation.pop("segments")]
    image = Image(**value.pop("image"))
    return PreparedImage(image=image, annotation=Annotation(**annotation, segments=segments), **value)


def write_split(
    folder: Path, name: str, images_dir: str, journal: Journal, categories: list[Category]
) -> dict[str, Any]:
    """Write `panoptic_<name>.json` and `files_<name>.csv`, one image at a time.

    Returns:
        The split's part of the manifest.
    """
    json_path, csv_path = folder / f"panoptic_{name}.json", folder / f"files_{name}.csv"
    segments = crowds = 0
    with write_errors(json_path), open(json_path, "w", encoding="utf-8") as stream:
        listed = [category.model_dump() for category in categories]
        stream.write('{"categories":')
        _dump(stream, [{**category, "isthing": int(category["isthing"])} for category in listed])
        stream.write(',"images":[')
        for i, prepared in enumerate(journal.images()):
            stream.write(",\n" if i else "\n")
            _dump(stream, asdict(prepared.image))
        stream.write('],"annotations":[')
        for i, prepared in enumerate(journal.images()):
            stream.write(",\n" if i else "\n")
            annotation = asdict(prepared.annotation)
            annotation["segments_info"] = [
                {**segment, "iscrowd": int(segment["iscrowd"])} for segment in annotation.pop("segments")
            ]
            _dump(stream, annotation)
        stream.write("]}\n")
    with write_errors(csv_path), open(csv_path, "w", encoding="utf-8", newline="") as stream:
        stream.write(csv_line(COLUMNS))
        for prepared in journal.images():
            image, found = prepared.image, prepared.annotation.segments
            crowd = sum(segment.iscrowd for segment in found)
            segments, crowds = segments + len(found), crowds + crowd
            cells = [image.file_name, prepared.annotation.file_name, image.width, image.height]
            cells += [len(found), crowd, prepared.image_bytes]
            cells += [prepared.image_sha256, prepared.png_sha256, prepared.digest]
            stream.write(csv_line(cells))
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
    """Write `manifest.json`, with the digest of its content."""
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
