"""Speed of reading data, as a share of the rate of merely decoding the same files; and memory of a worker.

    python benchmarks/data.py          the sample of COCO below KMAX_DATA_ROOT or ../shared/samples
    python benchmarks/data.py --run coco-convnext_l --size 1281 1281 --json data.json

Figures are CPU time of one core, in this process and in turns, files being in the page cache; the least of
the repetitions counts, so that other work on the machine counts little. A training sample reads two images
(one is pasted over another), so its baseline decodes two JPEGs and two panoptic PNGs, each with the fastest
decoder found here. Nothing is kept decoded between samples, except where memory is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import itertools
import multiprocessing
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from kmax import files
from kmax.config import Data
from kmax.data import loader, source, transforms
from kmax.data.augmentation import fitting, jitter
from kmax.data.augmentation.resampling import interpolate, resize_with_pillow, whole
from kmax.data.datasets import Prepared, open_prepared
from kmax.data.download import download
from kmax.data.geometry import fit_size, resize_image, scaled_size
from kmax.data.png import decode_ids, decode_rgb, open_png
from kmax.data.prepare import prepare
from kmax.inference.benchmark import machine
from kmax.runs import load_run

ROOT = Path(__file__).resolve().parents[1]
Bytes = NDArray[np.uint8]
Decoder = Callable[[Path], NDArray[Any]]
STAGES = {
    "read and decode images": [(source, "read_image_words"), (loader, "read_image_words")],
    "read and decode labels": [(source, "read_map")],
    "ids to segments": [(source, "owners_of")],
    "resize images": [(jitter, "resample_image"), (fitting, "resample_image")],
    "resize labels": [(jitter, "resample_owner")],
    "colours": [(jitter, "_recolored")],
    "pad, crop, flip": [(jitter, "place")],
    "copy-paste": [(transforms, "copy_paste")],
    "targets": [(loader, "targets_of")],
    "normalise and collate": [(loader, "_batch")],
    "resize, normalise and collate": [(loader, "_inference_batch")],
}
REST = "rest"


def main() -> None:
    """Measure, print tables, and write the figures."""
    options = read_options()
    torch.set_num_threads(1)
    data = load_run(options.run).data.model_copy(
        update={"dataset": options.dataset, "image_size": options.size or [641, 641]}
    )
    with project(options.root.resolve()):
        download(options.dataset)
        prepare(options.dataset, workers=1)
        prepared = open_prepared(options.dataset)
        told: dict[str, Any] = {
            "run": options.run,
            "size": data.image_size,
            "machine": machine(torch.device("cpu")),
        }
        told |= decoding(prepared, options.repeats)
        told |= reading(prepared, data, told, options.repeats)
        told["resamplers"] = resamplers(prepared, options.repeats)
        told["worker_bytes_after_epoch"] = worker_memory(prepared, data, options.epochs)
    print(table(told))
    if options.json:
        files.write_json(options.json, told)


def read_options() -> argparse.Namespace:
    """What the command line asks for."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    root = Path(os.environ.get("KMAX_DATA_ROOT", ROOT.parent / "shared/samples"))
    parser.add_argument("--root", type=Path, default=root, help="folder of datasets")
    parser.add_argument("--dataset", default="coco_mini", help="whose images are read")
    parser.add_argument("--run", default="coco-resnet50", help="whose recipe holds")
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="of the input")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3, help="over which memory is watched")
    parser.add_argument("--json", type=Path, help="file for all figures")
    return parser.parse_args()


@contextlib.contextmanager
def project(root: Path) -> Iterator[None]:
    """An empty project of its own as working folder, with datasets below `root`."""
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        patch.dict(os.environ, KMAX_DATA_ROOT=str(root)),
    ):
        shutil.copytree(ROOT / "params", "params")
        yield


def best(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """CPU seconds of each, measured in turns; the least of the repetitions."""
    times = dict.fromkeys(functions, float("inf"))
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.process_time()
            function()
            times[name] = min(times[name], time.process_time() - start)
    return times


# ---------------------------------------------------------------------------------------------- decoders


def decoders() -> tuple[dict[str, Decoder], dict[str, Decoder]]:
    """Ways to decode a JPEG, and a panoptic PNG, to bytes of red, green and blue or to ids."""

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
    png["kmax.data.png"] = lambda path: decode_rgb(open_png(path, "map"))
    png["kmax.data.png, to ids"] = lambda path: decode_ids(open_png(path, "map"))
    return jpeg, png


def decoding(prepared: Prepared, repeats: int) -> dict[str, Any]:
    """CPU seconds of decoding one file, by split, kind and decoder."""
    told: dict[str, Any] = {}
    jpeg, png = decoders()
    for name in ("train", "val"):
        split = prepared.split(name)
        images = source.Source(prepared, name, None, name, 0).images
        jpegs = [split.images_dir / image.file_name for image in images]
        pngs = [split.panoptic_dir / Path(image.file_name).with_suffix(".png").name for image in images]
        calls: dict[str, Callable[[], object]] = {}
        for kind, ways, paths in (("JPEG", jpeg, jpegs), ("PNG", png, pngs)):
            for way, decode in ways.items():
                calls[f"{kind}, {way}"] = lambda decode=decode, paths=paths: [decode(path) for path in paths]
        times = {key: value / len(images) for key, value in best(calls, repeats).items()}
        told[f"decoding_{name}"] = times
    return told


def fastest(times: dict[str, float], kind: str) -> float:
    """Seconds of the fastest decoder of a kind."""
    return min(seconds for name, seconds in times.items() if name.startswith(kind))


# ----------------------------------------------------------------------------------------------- reading


class Stages:
    """CPU seconds in each stage, without those of the stages inside of it."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys([*STAGES, REST], 0.0)
        self._stack = [REST]
        self._since = time.process_time()

    def switch(self) -> None:
        """Give the time since the last switch to the innermost stage."""
        now = time.process_time()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, told apart."""

        def call(*arguments: Any, **named: Any) -> Any:
            self.switch()
            self._stack.append(name)
            try:
                return function(*arguments, **named)
            finally:
                self.switch()
                self._stack.pop()

        return call


def breakdown(call: Callable[[], object], samples: int, repeats: int) -> dict[str, float]:
    """CPU seconds per sample in each stage, of the fastest repetition."""
    found: list[dict[str, float]] = []
    for _ in range(repeats):
        with contextlib.ExitStack() as stack:
            stages = Stages()
            for name, places in STAGES.items():
                for place, attribute in places:
                    function = stages.wrapped(name, getattr(place, attribute))
                    if isinstance(place, type):
                        function = method(function)
                    stack.enter_context(patch.object(place, attribute, function))
            stages.switch()
            stages.seconds[REST] = 0.0
            call()
            stages.switch()
        found.append({name: seconds / samples for name, seconds in stages.seconds.items()})
    return min(found, key=lambda seconds: sum(seconds.values()))


def method(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that becomes a method of the class which it is an attribute of."""
    return lambda *arguments: function(*arguments)


def reading(prepared: Prepared, data: Data, told: dict[str, Any], repeats: int) -> dict[str, Any]:
    """Training and validation, whole and by stage, and their shares of the rate of decoding."""
    count = {split: images_in(prepared, split) for split in ("train", "val")}
    batch = 4
    arguments: dict[str, Any] = {
        "seed": 0,
        "global_batch_size": batch,
        "start_step": 0,
        "rank": 0,
        "world_size": 1,
        "label_stride": 4,
    }
    with patch.object(loader, "CACHE_BYTES", 0):
        batches = loader.train_batches(prepared, data, **arguments)

    def train() -> None:
        for _ in itertools.islice(batches, count["train"] // batch):
            pass

    def val() -> None:
        for _ in loader.val_batches(prepared, data, batch_size=1):
            pass

    next(batches)  # tables and weights that are kept
    times = best({"train": train, "val": val}, repeats)
    samples = count["train"] // batch * batch
    seconds = {"train": times["train"] / samples, "val": times["val"] / count["val"]}
    jpeg, png = (fastest(told["decoding_train"], kind) for kind in ("JPEG", "PNG"))
    of_val = fastest(told["decoding_val"], "JPEG"), fastest(told["decoding_val"], "PNG")
    return {
        "seconds_per_sample": seconds,
        "share_of_decoding": {
            "training, of two JPEGs and PNGs": 2 * (jpeg + png) / seconds["train"],
            "validation, of one JPEG and PNG": sum(of_val) / seconds["val"],
            "validation, of one JPEG": of_val[0] / seconds["val"],
        },
        "stages_train": breakdown(train, samples, repeats),
        "stages_val": breakdown(val, count["val"], repeats),
    }


def images_in(prepared: Prepared, split: str) -> int:
    """Images of a split."""
    return len(source.Source(prepared, split, None, split, 0))


def worker_memory(prepared: Prepared, data: Data, epochs: int) -> list[int]:
    """Resident bytes of a worker after each epoch, its cache of decoded images included."""
    count = images_in(prepared, "train")
    batches = loader.train_batches(
        prepared,
        data,
        seed=0,
        global_batch_size=4,
        start_step=0,
        rank=0,
        world_size=1,
        label_stride=4,
        workers=1,
    )
    found = []
    for _ in range(epochs):
        for _ in itertools.islice(batches, count // 4):
            pass
        (worker,) = multiprocessing.active_children()
        status = Path(f"/proc/{worker.pid}/status").read_text()
        found.append(1024 * int(status.split("VmRSS:")[1].split()[0]))
    return found


# --------------------------------------------------------------------------------------------- resampling


def resamplers(prepared: Prepared, repeats: int) -> dict[str, dict[str, float]]:
    """CPU seconds of enlarging an image to fit 641x641 and by 1.3, and how far from deeplab2's result."""
    rgb = source.Source(prepared, "train", None, "train", 0)[0].rgb
    fitted = fit_size(rgb.shape[:2], (641, 641))
    size = scaled_size(fitted, 1.3)

    def with_torch() -> Any:
        planes = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float()
        for wanted in (fitted, size):
            planes = torch.nn.functional.interpolate(planes, wanted, mode="bilinear", align_corners=True)
        return planes[0].permute(1, 2, 0).numpy()

    ways: dict[str, Callable[[], Any]] = {
        "deeplab2's two steps (tf)": lambda: interpolate(rgb, [fitted, size], whole(size)),
        "the same steps by torch, float32": with_torch,
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


# -------------------------------------------------------------------------------------------------- report


def table(told: dict[str, Any]) -> str:
    """The figures as Markdown."""
    out = io.StringIO()
    print(
        f"{told['machine']['name']}, one core; {told['run']} at {'x'.join(map(str, told['size']))}", file=out
    )
    for split in ("train", "val"):
        rows(out, f"decoding one file of {split}", told[f"decoding_{split}"])
    for split in ("train", "val"):
        stages = {name: seconds for name, seconds in told[f"stages_{split}"].items() if seconds}
        rows(out, f"one sample of {split}", stages)
    rows(out, "whole sample", told["seconds_per_sample"])
    print("\n| share of the rate of decoding | |\n|---|---:|", file=out)
    for name, share in told["share_of_decoding"].items():
        print(f"| {name} | {share:.0%} |", file=out)
    print("\n| resampling | ms | levels from deeplab2's |\n|---|---:|---:|", file=out)
    for name, way in told["resamplers"].items():
        print(f"| {name} | {1000 * way['seconds']:.2f} | {way['levels_apart']:.2g} |", file=out)
    mega = ", ".join(f"{size / 1e6:.0f}" for size in told["worker_bytes_after_epoch"])
    print(f"\nworker's resident memory after each epoch: {mega} MB", file=out)
    return out.getvalue()


def rows(out: io.StringIO, title: str, seconds: dict[str, float]) -> None:
    """A table of milliseconds."""
    print(f"\n| {title} | ms |\n|---|---:|", file=out)
    for name, value in seconds.items():
        print(f"| {name} | {1000 * value:.2f} |", file=out)


if __name__ == "__main__":
    main()
