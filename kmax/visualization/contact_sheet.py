"""Samples of a dataset on one picture: images with their segments, before and after augmentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kmax import paths
from kmax.config import Augmentation, CopyPaste, Data
from kmax.data.augmentation.training_view import train_view
from kmax.data.datasets import Prepared, open_prepared
from kmax.data.image_source import ImageSource, SegmentLabels
from kmax.errors import InputError
from kmax.outputs import require_outputs
from kmax.runs.families import load_run
from kmax.visualization.overlays import overlay, save_picture

CELL, GAP = 384, 4  # longer side of a picture and the gap between two, in pixels
CACHE_BYTES = 64 * 2**20
PNG = b"\x89PNG\r\n\x1a\n"
SOFTWARE = "kmax data show"  # written into the PNG file

Rgb = NDArray[np.uint8]


def recipe(dataset: str, split: str) -> Data:
    """How deeplab2 trains on COCO, at 641 x 641."""
    return Data(
        dataset=dataset,
        train_split=split,
        val_split=split,
        image_size=[641, 641],
        train_images=None,
        val_images=None,
        preprocessing="tf",
        augmentation=Augmentation(
            flip=0.5,
            scale=[0.3, 1.7],
            scale_step=0.1,
            color_jitter=0.0,
            color_policy="simple_classification_policy",
            copy_paste=CopyPaste(scale_factor=0.5),
        ),
    )


def contact_sheet(
    dataset: str,
    out: Path,
    *,
    run: str | None,
    split: str,
    count: int,
    augmented: bool,
    seed: int,
    overwrite: bool = False,
) -> str:
    """Write a picture with one row per image: the image, its segments, and the same augmented.

    Args:
        run: its data section is used; None: deeplab2's recipe for COCO.
        augmented: whether the last two columns are drawn.
        overwrite: also replace a file that is not a contact sheet.

    Returns:
        The path written.

    Raises:
        InputError: unknown dataset, split or run; a run of another dataset; a corrupt file; `out` is a file
            of the dataset or of the user, or cannot be written.
    """
    prepared = open_prepared(dataset)
    data = recipe(dataset, split) if run is None else load_run(run).data
    if data.dataset != dataset:
        raise InputError(f"run '{run}' trains on dataset '{data.dataset}', not on '{dataset}'")
    shown = prepared.split(split)
    inputs = [shown.images_dir, shown.panoptic_dir, shown.panoptic_json, paths.dataset_file(dataset)]
    require_outputs({out: is_contact_sheet}, inputs, overwrite)
    source = ImageSource(prepared, split, None, f"{dataset}/{split}", CACHE_BYTES)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(source)).tolist()
    rows = []
    for place, index in enumerate(order[:count]):
        decoded = source[index]
        row = _with_segments(decoded.rgb[..., :3], decoded.owner, decoded.labels, prepared)
        if augmented:
            view = train_view(rng, source, index, order[(place + count) % len(order)], data)[1]
            pixels = np.clip(view.pixels, 0, 255).astype(np.uint8)
            row += _with_segments(pixels, view.owner, view.labels, prepared)
        rows.append(row)
    save_picture(out, _grid(rows), SOFTWARE)
    return str(out)


def is_contact_sheet(path: Path) -> bool:
    """Whether a file was written by `contact_sheet`."""
    with open(path, "rb") as stream:
        start = stream.read(256)
    return start.startswith(PNG) and f"Software\0{SOFTWARE}".encode() in start


def _with_segments(
    rgb: Rgb, owner: NDArray[np.integer], labels: SegmentLabels, prepared: Prepared
) -> list[Rgb]:
    """The image, and the image with its segments; crowd is shown as void."""
    present = np.unique(owner[owner > 0]).tolist()
    classes = {i: int(labels.classes[i - 1]) for i in present if not labels.iscrowd[i - 1]}
    ids = owner.clip(min=0).astype(np.int32)
    rgb = np.ascontiguousarray(rgb)
    return [_cell(rgb), _cell(overlay(rgb, ids, classes, prepared.categories))]


def _cell(picture: Rgb) -> Rgb:
    """A picture on a white square of the size of a cell."""
    image = Image.fromarray(picture)
    factor = CELL / max(image.size)
    width, height = (max(1, round(side * factor)) for side in image.size)
    cell = np.full((CELL, CELL, 3), 255, np.uint8)
    cell[:height, :width] = np.asarray(image.resize((width, height), Image.Resampling.BOX))
    return cell


def _grid(rows: list[list[Rgb]]) -> Rgb:
    step = CELL + GAP
    sheet = np.full((len(rows) * step - GAP, len(rows[0]) * step - GAP, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            sheet[i * step : i * step + CELL, j * step : j * step + CELL] = cell
    return sheet
