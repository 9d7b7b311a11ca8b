"""Panoptic segmentation of a user's own images, from a weights file alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from kmax.config import Category, Predict, Preprocessing
from kmax.data.augmentation.strip_resampling import shrink_with_pillow, write_fitted_strips
from kmax.data.formats.coco_panoptic import map_to_rgb, save_map
from kmax.data.formats.image_file import ImageTooLargeError, UnreadableImageError, load_image, read_size
from kmax.data.formats.image_strips import open_strips
from kmax.data.formats.png import MAX_PIXELS, write_rgb
from kmax.data.loading.loader import network_input
from kmax.errors import InputError
from kmax.inference.image_outputs import ImageOutputs, find_images, name_faults
from kmax.inference.large_images import require_bands, segment_large_image
from kmax.inference.output_record import OutputRecord
from kmax.inference.panoptic_map import PanopticMap
from kmax.inference.segment_batch import segment_images, segments_info
from kmax.inference.upsampling import Size2
from kmax.model.io import ModelMetadata, load_model
from kmax.model.kmax import KMaX
from kmax.parameter_files import parse
from kmax.progress import track
from kmax.visualization.overlays import Rgb, overlay, picture_size

# Larger images are processed in strips, which takes longer, but little memory.
LARGE_PIXELS = 2**25
Entries = list[dict[str, Any]]  # segments in the JSON
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


def predict_images(
    paths: Sequence[Path],
    weights: Path,
    out: Path,
    predict: Predict | None = None,
    *,
    max_pixels: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Segment images; write `<stem>.png` (panoptic map), `<stem>_overlay.png` and one `panoptic.json`.

    Images are preprocessed by the pipeline recorded in the metadata of the weights file. If an image fails
    after others were segmented, the JSON describes those.

    Args:
        paths: JPEG, PNG, WebP, TIFF or BMP files, and folders of them; photographs are rotated by their EXIF
            tag.
        weights: a file of `kmax.model.io.save_model`.
        out: folder to write to.
        predict: thresholds. None: those of the run that made the weights, from their metadata, or (in a
            ported file without a run) the original's on COCO.
        max_pixels: larger images are refused; None: those that are too large for a dataset.
        overwrite: replace existing files in `out` that an earlier call did not write.

    Raises:
        InputError: missing or corrupt images or weights, or outputs that would replace inputs, each other or
            other files. All faults are reported before any work, one line each.
    """
    out = Path(out)
    max_pixels = MAX_PIXELS if max_pixels is None else max_pixels
    model, metadata = load_model(weights)
    record = OutputRecord(out)
    images = find_images([Path(path) for path in paths], out, record)
    if predict is None:
        published = metadata.extra.get("predict")
        predict = DEFAULTS if published is None else parse(Predict, published, Path(weights))
    data = parse(Preprocessing, metadata.extra.get("data", {}), Path(weights))
    segmenter = _Segmenter(model, metadata, predict, data, max_pixels)
    faults = name_faults(images, Path(weights), out, record, overwrite)
    faults += [fault for image in images for fault in segmenter.faults(image.path)]
    if faults:
        raise InputError(faults)
    content = _Content(metadata.categories)
    record.start()
    try:
        for image in track(iter(images), len(images), "predict-images"):
            with record.all_or_none([out / image.map, out / image.overlay]):
                content.add(image, *segmenter.write(image, out, record))
    except BaseException:
        with contextlib.suppress(InputError):
            record.finish(content.as_json())
        raise
    record.finish(content.as_json())
    return out


class _Content:
    """What panoptic.json describes: the images that are done."""

    def __init__(self, categories: Sequence[Category]) -> None:
        self._categories = [category.model_dump() for category in categories]
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, image: ImageOutputs, size: Size2, segments: list[dict[str, Any]]) -> None:
        number = len(self._images) + 1
        height, width = size
        self._images.append({"id": number, "file_name": image.name, "height": height, "width": width})
        self._annotations.append({"image_id": number, "file_name": image.map, "segments_info": segments})

    def as_json(self) -> dict[str, Any]:
        return {"images": self._images, "categories": self._categories, "annotations": self._annotations}


class _Segmenter:
    """Segments images one by one.

    Args:
        model: the network.
        metadata: of its file.
        predict: thresholds.
        data: the preprocessing.
        max_pixels: larger images are refused.
    """

    def __init__(
        self, model: KMaX, metadata: ModelMetadata, predict: Predict, data: Preprocessing, max_pixels: int
    ) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.to(self._device)
        self._categories = metadata.categories
        isthing = [category.isthing for category in metadata.categories]
        self._isthing = torch.tensor(isthing, device=self._device)
        self._input_size = metadata.arguments.image_size
        self._predict = predict.model_copy(update={"instances": None, "semantic": False})
        self._data = data
        self._max_pixels = max_pixels

    def faults(self, path: Path) -> Iterator[str]:
        """What is wrong with an image file; all pixels are decoded: truncated files have good headers."""
        try:
            if self._is_large(path):
                strips = open_strips(path, self._max_pixels)
                for _ in strips:
                    pass
                mode = strips.mode
            else:
                mode = load_image(path, max_pixels=self._max_pixels, check_only=True).mode
        except ImageTooLargeError as error:
            yield f"{error}, or allow it with --max-pixels {error.pixels}"
        except InputError as error:
            yield from error.faults
        else:
            if mode == "F" or mode.startswith("I"):
                yield f"{path}: expected 8 bits per channel, not an image of mode {mode}; convert it"

    def write(self, image: ImageOutputs, out: Path, record: OutputRecord) -> tuple[Size2, Entries]:
        """Write the outputs of one image.

        Args:
            image: the image.
            out: folder to write to.
            record: of `out`.

        Returns:
            Its (height, width), and its segments as entries of the JSON.
        """
        if self._is_large(image.path):
            return self._write_large(image, out, record)
        rgb = load_image(image.path, max_pixels=self._max_pixels).rgb(upright=True)
        original = (rgb.shape[0], rgb.shape[1])
        tensor, content = network_input(
            rgb, self._input_size, self._data.preprocessing, self._data.native_size
        )
        batch, name = tensor[None].to(self._device), str(image.path)
        (prediction,) = segment_images(
            self._model, batch, [content], [original], self._isthing, self._predict, [name]
        )
        result = prediction.panoptic
        with record.writing(out / image.map) as temporary:
            save_map(temporary, result.ids)
        self._write_overlay(out / image.overlay, record, rgb, result)
        return original, segments_info(result, self._categories)

    def _write_large(self, image: ImageOutputs, out: Path, record: OutputRecord) -> tuple[Size2, Entries]:
        """As `write`, in strips of rows."""
        strips = open_strips(image.path, self._max_pixels)
        original = strips.original_size
        planes = np.empty((3, *self._input_size), np.float32)
        content = write_fitted_strips(strips, planes, self._data.preprocessing, self._data.native_size)
        shown = picture_size(*original)
        picture = shrink_with_pillow(strips, shown)
        del strips  # it may hold the decoded image
        batch, name = torch.from_numpy(planes)[None].to(self._device), str(image.path)
        result = segment_large_image(
            self._model, batch, content, original, self._isthing, self._predict, name
        )
        with record.writing(out / image.map) as temporary:
            write_rgb(temporary, original, (map_to_rgb(band) for band in result.bands()))
        small = result.shrunk(shown)
        self._write_overlay(out / image.overlay, record, picture, small)
        return original, segments_info(small, self._categories)

    def _write_overlay(self, path: Path, record: OutputRecord, rgb: Rgb, result: PanopticMap) -> None:
        classes = {segment.id: segment.class_index for segment in result.segments}
        picture = overlay(rgb, result.ids, classes, self._categories)
        with record.writing(path) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")

    def _is_large(self, path: Path) -> bool:
        try:
            width, height = read_size(path)
        except UnreadableImageError:  # `load_image` may still be able to
            return False
        if not LARGE_PIXELS < width * height <= self._max_pixels:
            return False
        try:
            require_bands(self._model.arguments.flavour, self._predict)
        except InputError:
            if width * height > MAX_PIXELS:
                raise
            return False
        return True
