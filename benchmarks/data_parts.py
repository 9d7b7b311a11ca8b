"""The decoders and resamplers that `data.py` compares."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from timing import best

from kmax.data import image_source
from kmax.data.augmentation.resampling import interpolate, resize_with_pillow, whole
from kmax.data.datasets import Prepared
from kmax.data.formats.png import decode_ids, decode_rgb, open_png
from kmax.data.geometry import fit_size, resize_image, scaled_size

Bytes = NDArray[np.uint8]
Decoder = Callable[[Path], NDArray[Any]]


# ---------------------------------------------------------------------------------------------- decoders


def decoders() -> tuple[dict[str, Decoder], dict[str, Decoder]]:
    """Decoders by name: of JPEGs to RGB bytes, and of panoptic PNGs to RGB bytes or ids."""

    def pillow(path: Path) -> Bytes:
        with Image.open(path) as image:
            return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))

    jpeg: dict[str, Decoder] = {"Pillow": pillow}
    png: dict[str, Decoder] = {"Pillow": pillow}
    with contextlib.suppress(ImportError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchvision.io import ImageReadMode, decode_image

        def torchvision(path: Path) -> Bytes:
            data = torch.from_numpy(np.fromfile(path, np.uint8))
            return decode_image(data, ImageReadMode.RGB).permute(1, 2, 0).numpy()  # type: ignore[no-any-return]

        jpeg["torchvision.io"] = png["torchvision.io"] = torchvision
    with contextlib.suppress(ImportError):
        simplejpeg = importlib.import_module("simplejpeg")
        jpeg["simplejpeg"] = lambda path: simplejpeg.decode_jpeg(path.read_bytes(), "RGB")
    with contextlib.suppress(ImportError):
        cv2 = importlib.import_module("cv2")
        jpeg["OpenCV"] = png["OpenCV"] = lambda path: cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    with contextlib.suppress(ImportError):
        pyspng = importlib.import_module("pyspng")
        png["pyspng"] = lambda path: pyspng.load(path.read_bytes())
    png["kmax.data.formats.png"] = lambda path: decode_rgb(open_png(path, "map"))
    png["kmax.data.formats.png, to ids"] = lambda path: decode_ids(open_png(path, "map"))
    return jpeg, png


def decoding(prepared: Prepared, repeats: int) -> dict[str, Any]:
    """CPU seconds to decode one file, by split, kind and decoder."""
    results: dict[str, Any] = {}
    jpeg, png = decoders()
    for name in ("train", "val"):
        split = prepared.split(name)
        images = image_source.ImageSource(prepared, name, None, name, 0).images
        jpegs = [split.images_dir / image.file_name for image in images]
        pngs = [split.panoptic_dir / Path(image.file_name).with_suffix(".png").name for image in images]
        calls: dict[str, Callable[[], object]] = {}
        for kind, ways, paths in (("JPEG", jpeg, jpegs), ("PNG", png, pngs)):
            for way, decode in ways.items():
                calls[f"{kind}, {way}"] = lambda decode=decode, paths=paths: [decode(path) for path in paths]
        times = {key: value / len(images) for key, value in best(calls, repeats).items()}
        results[f"decoding_{name}"] = times
    return results


def fastest(times: dict[str, float], kind: str) -> float:
    """Seconds of the fastest decoder for a kind of file."""
    return min(seconds for name, seconds in times.items() if name.startswith(kind))


# --------------------------------------------------------------------------------------------- resampling


def resamplers(prepared: Prepared, repeats: int) -> dict[str, dict[str, float]]:
    """CPU seconds of enlarging an image to fit 641x641 and by 1.3, and how far from deeplab2's result."""
    rgb = image_source.ImageSource(prepared, "train", None, "train", 0)[0].rgb
    fitted = fit_size(rgb.shape[:2], (641, 641))
    size = scaled_size(fitted, 1.3)

    def with_torch() -> Any:
        planes = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float()
        for wanted in (fitted, size):
            planes = torch.nn.functional.interpolate(planes, wanted, mode="bilinear", align_corners=True)
        return planes[0].permute(1, 2, 0).numpy()

    ways: dict[str, Callable[[], Any]] = {
        "deeplab2's two steps (tf)": lambda: interpolate(rgb, [fitted, size], whole(size)),
        "the same steps with torch, float32": with_torch,
        "Pillow, bytes, one step (torch)": lambda: resize_with_pillow(rgb, size, whole(size)),
        "sparse weights, float32, one step": lambda: resize_image(rgb, size),
    }
    with contextlib.suppress(ImportError):
        cv2 = importlib.import_module("cv2")
        ways["OpenCV, bytes, one step"] = lambda: cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_LINEAR)
    times = best(ways, repeats)
    exact = interpolate(rgb, [fitted, size], whole(size))[..., :3]
    apart = {name: float(np.abs(way()[..., :3] - exact).max()) for name, way in ways.items()}
    return {name: {"seconds": times[name], "levels_apart": apart[name]} for name in ways}
