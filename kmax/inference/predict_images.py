"""Panoptic segmentation of a user's own images, from a weights file alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from kmax.config import Predict, Preprocessing
from kmax.data.formats.coco_panoptic import write_map
from kmax.data.loading.loader import network_input
from kmax.errors import InputError
from kmax.files import write_json
from kmax.inference.segment_batch import segment_images, segments_info
from kmax.model.io import load_model
from kmax.parameter_files import parse
from kmax.progress import track
from kmax.visualization.overlays import overlay, save_picture

# The original's thresholds on COCO, without its area limits, which suit inputs of 1281 pixels.
DEFAULTS = Predict(
    mode="maskwise",
    pixel_threshold=0.4,
    class_threshold_thing=0.7,
    class_threshold_stuff=0.5,
    overlap_threshold=0.8,
    reorder_class_weight=1.0,
    reorder_mask_weight=1.0,
    thing_area_limit=0,
    stuff_area_limit=0,
    batch_size=1,
    pictures=0,
)


def predict_images(paths: Sequence[Path], weights: Path, out: Path, predict: Predict | None = None) -> Path:
    """Segment images; write `<stem>.png` (panoptic map), `<stem>_overlay.png` and one `panoptic.json`.

    Images are preprocessed by the pipeline recorded in the metadata of the weights file.

    Args:
        paths: JPEG or PNG files with distinct stems; photographs are rotated by their EXIF tag.
        weights: a file of `kmax.model.io.save_model`.
        out: folder to write to.
        predict: thresholds. None: those of the run that made the weights, from their metadata, or (in a
            ported file without a run) the original's on COCO.

    Raises:
        InputError: missing or corrupt images or weights. All bad images are reported first, one line each.
    """
    paths = [Path(path) for path in paths]
    model, metadata = load_model(weights)
    stems = [path.stem for path in paths]
    faults = [
        f"{path}: duplicate stem '{path.stem}': the outputs of two images would overwrite each other"
        for place, path in enumerate(paths)
        if path.stem in stems[:place]
    ]
    faults.extend(fault for path in paths if (fault := _fault(path)))
    if faults:
        raise InputError(faults)
    if predict is None:
        published = metadata.extra.get("predict")
        predict = DEFAULTS if published is None else parse(Predict, published, Path(weights))
    predict = predict.model_copy(update={"instances": None, "semantic": False})
    data = parse(Preprocessing, metadata.extra.get("data", {}), Path(weights))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    categories = metadata.categories
    isthing = torch.tensor([category.isthing for category in categories], device=device)
    height, width = metadata.arguments.image_size
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, path in enumerate(track(iter(paths), len(paths), "predict-images"), start=1):
        rgb = _read(path)
        tensor, content_size = network_input(rgb, (height, width), data.preprocessing, data.native_size)
        original_size = (rgb.shape[0], rgb.shape[1])
        batch = tensor[None].to(device)
        sizes = [content_size], [original_size]
        (prediction,) = segment_images(model, batch, *sizes, isthing, predict, [str(path)])
        result = prediction.panoptic
        write_map(Path(out) / f"{path.stem}.png", result.ids)
        classes = {segment.id: segment.class_index for segment in result.segments}
        save_picture(Path(out) / f"{path.stem}_overlay.png", overlay(rgb, result.ids, classes, categories))
        images.append({"id": number, "file_name": path.name, "height": rgb.shape[0], "width": rgb.shape[1]})
        segments = segments_info(result, categories)
        annotations.append({"image_id": number, "file_name": f"{path.stem}.png", "segments_info": segments})
    content = {
        "images": images,
        "categories": [category.model_dump() for category in categories],
        "annotations": annotations,
    }
    write_json(Path(out) / "panoptic.json", content)
    return Path(out)


def _fault(path: Path) -> str | None:
    """The error message for a bad image file; all pixels are decoded: truncated files have good headers."""
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode == "F" or image.mode.startswith("I"):
                return f"{path}: expected 8 bits per channel, not an image of mode {image.mode}; convert it"
            return None
    except FileNotFoundError:
        return f"{path}: image not found"
    except (UnidentifiedImageError, Image.DecompressionBombError):
        return f"{path}: not a readable image file (JPEG or PNG)"
    except (OSError, SyntaxError, ValueError) as error:
        return f"{path}: image cannot be read: {error}"


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            return np.asarray(upright.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: image cannot be read: {error}") from error
