"""What a preparation has made so far, one line per image: it survives a kill and stays out of memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from kmax.data.formats.coco_panoptic import Annotation, Image, Segment
from kmax.files import digest


@dataclass(frozen=True, slots=True)
class Row:
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
        """Of all that a prepared image is."""
        return digest([asdict(self.image), asdict(self.annotation), self.image_sha256, self.png_sha256])


class Journal:
    """A JSON Lines file of rows; a line that a kill cut off is dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place: dict[int, int] = {}  # position -> where its line starts

    def __enter__(self) -> Journal:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = open(self._path, "a+b")
        self._stream.seek(0)
        start = 0
        for line in self._stream:
            row = _row(line)
            if row is None:
                break
            self._place[row.position] = start
            start += len(line)
        self._stream.truncate(start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def __contains__(self, position: int) -> bool:
        return position in self._place

    def __len__(self) -> int:
        return len(self._place)

    def read(self, position: int) -> Row:
        """The row of an image."""
        self._stream.seek(self._place[position])
        row = _row(self._stream.readline())
        assert row is not None
        return row

    def add(self, row: Row) -> None:
        """Append a row; from here on it counts as made."""
        self._place[row.position] = self._stream.seek(0, 2)
        self._stream.write(json.dumps(asdict(row), separators=(",", ":")).encode() + b"\n")
        self._stream.flush()

    def forget(self, position: int) -> None:
        """Have an image made again."""
        del self._place[position]

    def rows(self) -> Iterator[Row]:
        """All rows, in the order of the split."""
        for position in sorted(self._place):
            yield self.read(position)


def _row(line: bytes) -> Row | None:
    """None where a kill cut the line off."""
    if not line.endswith(b"\n"):
        return None
    try:
        value: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    annotation = value.pop("annotation")
    segments = [Segment(**{**entry, "bbox": tuple(entry["bbox"])}) for entry in annotation.pop("segments")]
    image = Image(**value.pop("image"))
    return Row(image=image, annotation=Annotation(**annotation, segments=segments), **value)
