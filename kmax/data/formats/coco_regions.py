"""Regions of COCO's instance annotations, checked before any compiled code reads them."""

from __future__ import annotations

from typing import Any

import numpy as np

from kmax.data.formats.json_numbers import whole

_LARGEST = 2**53


def region_fault(region: Any, size: tuple[int, int], ground_truth: bool) -> str | None:
    """The fault of a mask, if any: compressed RLE; in ground truth also uncompressed RLE and polygons."""
    if isinstance(region, dict):
        if region.get("size") != [*size]:
            return f"mask of size {region.get('size')!r:.40}, but the image is {size[1]}x{size[0]}"
        counts = region.get("counts")
        if isinstance(counts, str):
            lengths = decode_run_lengths(counts)
        elif ground_truth and isinstance(counts, list) and all(is_count(c) for c in counts):
            lengths = np.array(counts, np.int64)
        else:
            lengths = None
        pixels = size[0] * size[1]
        if lengths is None or ((lengths < 0) | (lengths > pixels)).any() or lengths.sum() != pixels:
            return "the run-length encoding of the mask is malformed or does not cover the image"
        return None
    if ground_truth and isinstance(region, list) and region and all(_is_polygon(part) for part in region):
        return _distance_fault(region, size, "polygon")
    if not ground_truth:
        return "the mask is not a run-length encoding"
    return f"'segmentation' is neither a run-length encoding nor polygons{_polygons_fault(region)}"


def _polygons_fault(region: Any) -> str:
    """What is wrong with a list of polygons, for the end of a message."""
    if not isinstance(region, list):
        return ": it is missing" if region is None else f": it is {region!r:.40}"
    if not region:
        return ": it is empty"
    index, part = next((i, part) for i, part in enumerate(region) if not _is_polygon(part))
    if not isinstance(part, list) or not all(map(is_number, part)):
        return f": part {index} is not a list of numbers"
    if len(part) % 2:
        return f": part {index} has {len(part)} numbers, which are not pairs"
    return f": part {index} has {len(part) // 2} points, a polygon has at least 3"


def without_short_polygons(region: Any) -> tuple[Any, int]:
    """A region without its polygons of fewer than 3 points, which cover no pixels, and their number."""
    if not isinstance(region, list):
        return region, 0
    kept = [part for part in region if not _is_short(part)]
    return kept, len(region) - len(kept)


def _is_short(part: Any) -> bool:
    return isinstance(part, list) and len(part) in (0, 2, 4) and all(map(is_number, part))


def box_fault(box: list[float], size: tuple[int, int]) -> str | None:
    """The fault of a box that is used as the mask, if any."""
    x, y, width, height = box
    return _distance_fault([[x, y, x + width, y + height]], size, "box")


def _distance_fault(parts: list[list[float]], size: tuple[int, int], what: str) -> str | None:
    far = 2 * sum(size)  # pycocotools steps along the edges, and its integers would overflow
    if any(abs(coordinate) > far for part in parts for coordinate in part):
        return f"the {what} is far outside the image"
    return None


def decode_run_lengths(text: str) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    """Run lengths from COCO's compressed text: five bits per character, mostly differences.

    Returns:
        int64 [runs]; None if the text is malformed.
    """
    try:
        values = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        return None
    if values.size and (values.min() < 0 or values.max() > 63 or values[-1] & 32):
        return None
    last = np.flatnonzero((values & 32) == 0)
    first = np.concatenate([[0], last[:-1] + 1]) if last.size else last
    widths = last - first + 1
    if widths.size and widths.max() > 8:
        return None
    place = np.arange(values.size) - np.repeat(first, widths)
    shifted = (values & 31) << (5 * place)
    numbers = np.add.reduceat(shifted, first) if first.size else shifted
    numbers = np.where(values[last] & 16, numbers - (1 << (5 * widths)), numbers)
    # From the fourth on, a number is the difference from the run before the last.
    for start in (1, 2):
        numbers[start::2] = np.cumsum(numbers[start::2])
    return numbers


def _is_polygon(part: Any) -> bool:
    return isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0 and all(map(is_number, part))


def is_number(value: Any) -> bool:
    """Whether this is a finite number; integers must be exact in float64."""
    return type(value) in (int, float) and abs(value) < _LARGEST


def is_count(value: Any) -> bool:
    """Whether this is a non-negative whole number that is exact in float64."""
    number = whole(value)
    return number is not None and 0 <= number < _LARGEST


def is_id(value: int | None) -> bool:
    """Whether this is a whole number that is exact in float64."""
    return value is not None and abs(value) < _LARGEST


def plain_region(region: Any) -> Any:
    """A valid region as the evaluators' compiled code expects it: its whole numbers as integers."""
    if not isinstance(region, dict):
        return region
    counts = region["counts"]
    if isinstance(counts, list):
        counts = [whole(count) for count in counts]
    return {"size": [int(side) for side in region["size"]], "counts": counts}
