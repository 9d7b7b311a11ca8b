"""Speed of the data loader, relative to merely decoding the same files, and memory of a worker.

    python benchmarks/data.py          # the sample of COCO below KMAX_DATA_ROOT or ../shared/samples
    python benchmarks/data.py --run coco-convnext_l --size 1281 1281 --json data.json

Times are CPU time of one core, measured alternately in this process with the files in the page cache. The
minimum over the repeats is reported, which limits the influence of other work on the machine. A training
sample reads two images (one is pasted over the other), so its baseline decodes two JPEGs and two panoptic
PNGs, each with the fastest decoder found on this machine. Decoded images are not cached between samples,
except where memory is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from data_parts import decoding, fastest, resamplers
from timing import best

from kmax import files
from kmax.config import Data
from kmax.data import image_source
from kmax.data.augmentation import training_view
from kmax.data.datasets import Prepared, open_prepared
from kmax.data.download.download_dataset import download
from kmax.data.image_list import val_images
from kmax.data.loading import loader
from kmax.data.prepare.prepare_dataset import prepare
from kmax.machine import describe
from kmax.runs.families import load_run

ROOT = Path(__file__).resolve().parents[1]
STAGES = {
    "read and decode images": [(image_source, "read_image_words"), (loader, "read_image_words")],
    "read and decode labels": [(image_source, "read_map")],
    "ids to segments": [(image_source, "owners_of")],
    "resize images": [(training_view, "resample_image")],
    "resize labels": [(training_view, "resample_owner")],
    "colours": [(training_view, "_resample_and_recolor")],
    "pad, crop, flip": [(training_view, "place")],
    "copy-paste": [(training_view, "copy_paste")],
    "targets": [(loader, "targets_of")],
    "normalise and collate": [(loader, "_batch")],
    "resize, normalise and collate": [(loader, "_inference_batch")],
}
REST = "rest"


def main() -> None:
    """Measure, print tables, and write the results as JSON."""
    options = read_options()
    torch.set_num_threads(1)
    data = load_run(options.run).data.model_copy(
        update={"dataset": options.dataset, "image_size": options.size or [641, 641]}
    )
    with project(options.root.resolve()):
        download(options.dataset)
        prepare(options.dataset, workers=1)
        prepared = open_prepared(options.dataset)
        results: dict[str, Any] = {
            "run": options.run,
            "size": data.image_size,
            "machine": describe(torch.device("cpu")),
        }
        results |= decoding(prepared, options.repeats)
        results |= reading(prepared, data, results, options.repeats)
        results["resamplers"] = resamplers(prepared, options.repeats)
        results["worker_bytes_after_epoch"] = worker_memory(prepared, data, options.epochs)
    print(table(results))
    if options.json:
        files.write_json(options.json, results)


def read_options() -> argparse.Namespace:
    """Parse the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    root = Path(os.environ.get("KMAX_DATA_ROOT", ROOT.parent / "shared/samples"))
    parser.add_argument("--root", type=Path, default=root, help="folder of datasets")
    parser.add_argument("--dataset", default="coco_mini", help="dataset to read")
    parser.add_argument("--run", default="coco-resnet50", help="run whose recipe is used")
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="network input size")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each time")
    parser.add_argument("--epochs", type=int, default=3, help="epochs over which memory is measured")
    parser.add_argument("--json", type=Path, help="file to write all results to")
    return parser.parse_args()


@contextlib.contextmanager
def project(root: Path) -> Iterator[None]:
    """Work in a temporary project folder, with datasets below `root`."""
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        patch.dict(os.environ, KMAX_DATA_ROOT=str(root)),
    ):
        shutil.copytree(ROOT / "params", "params")
        yield


# ----------------------------------------------------------------------------------------------- reading


class Stages:
    """CPU seconds in each stage, excluding nested stages."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys([*STAGES, REST], 0.0)
        self._stack = [REST]
        self._since = time.process_time()

    def switch(self) -> None:
        """Add the time since the last switch to the innermost stage."""
        now = time.process_time()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time counted as a stage."""

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
    """CPU seconds per sample in each stage, for the fastest repeat."""
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
    """A function that binds as a method when it is set as a class attribute."""
    return lambda *arguments: function(*arguments)


def reading(prepared: Prepared, data: Data, results: dict[str, Any], repeats: int) -> dict[str, Any]:
    """Training and validation: total time, time per stage, and fractions of the decoding rate."""
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

    # As in training, the annotation was read before.
    images = val_images(prepared, data)
    val_epochs = iter([loader.val_batches(prepared, data, images, batch_size=1) for _ in range(repeats)])

    def val() -> None:
        for _ in next(val_epochs):
            pass

    def val_anew() -> None:  # with the stages told apart
        for _ in loader.val_batches(prepared, data, val_images(prepared, data), batch_size=1):
            pass

    next(batches)  # tables, weights and machine code that are kept
    next(loader.val_batches(prepared, data, images, batch_size=1))
    times = best({"train": train, "val": val}, repeats)
    samples = count["train"] // batch * batch
    seconds = {"train": times["train"] / samples, "val": times["val"] / count["val"]}
    jpeg, png = (fastest(results["decoding_train"], kind) for kind in ("JPEG", "PNG"))
    val_jpeg, val_png = (fastest(results["decoding_val"], kind) for kind in ("JPEG", "PNG"))
    return {
        "seconds_per_sample": seconds,
        "share_of_decoding": {
            "training, two JPEGs and PNGs": 2 * (jpeg + png) / seconds["train"],
            "validation, one JPEG and PNG": (val_jpeg + val_png) / seconds["val"],
            "validation, one JPEG": val_jpeg / seconds["val"],
        },
        "stages_train": breakdown(train, samples, repeats),
        "stages_val": breakdown(val_anew, count["val"], repeats),
    }


def images_in(prepared: Prepared, split: str) -> int:
    """Images of a split."""
    return len(image_source.ImageSource(prepared, split, None, split, 0))


def worker_memory(prepared: Prepared, data: Data, epochs: int) -> list[int]:
    """Resident bytes of a worker after each epoch, including its cache of decoded images."""
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


# -------------------------------------------------------------------------------------------------- report


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    out = io.StringIO()
    print(
        f"{results['machine']['name']}, one core; {results['run']} at {'x'.join(map(str, results['size']))}",
        file=out,
    )
    for split in ("train", "val"):
        rows(out, f"decoding one file of {split}", results[f"decoding_{split}"])
    for split in ("train", "val"):
        stages = {name: seconds for name, seconds in results[f"stages_{split}"].items() if seconds}
        rows(out, f"one sample of {split}", stages)
    rows(out, "total per sample", results["seconds_per_sample"])
    print("\n| fraction of the decoding rate | |\n|---|---:|", file=out)
    for name, share in results["share_of_decoding"].items():
        print(f"| {name} | {share:.0%} |", file=out)
    print("\n| resampling | ms | deviation from deeplab2, levels |\n|---|---:|---:|", file=out)
    for name, way in results["resamplers"].items():
        print(f"| {name} | {1000 * way['seconds']:.2f} | {way['levels_apart']:.2g} |", file=out)
    mega = ", ".join(f"{size / 1e6:.0f}" for size in results["worker_bytes_after_epoch"])
    print(f"\nresident memory of the worker after each epoch: {mega} MB", file=out)
    return out.getvalue()


def rows(out: io.StringIO, title: str, seconds: dict[str, float]) -> None:
    """A table of milliseconds."""
    print(f"\n| {title} | ms |\n|---|---:|", file=out)
    for name, value in seconds.items():
        print(f"| {name} | {1000 * value:.2f} |", file=out)


if __name__ == "__main__":
    main()
