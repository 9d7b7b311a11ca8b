"""Speed of the evaluators: CPU time compared with merely decoding the same PNG files, and memory.

    python benchmarks/evaluation.py
    python benchmarks/evaluation.py --images 100 --frames 10 --many 20000

The maps are synthetic. Those for panoptic quality have the sizes of COCO and Cityscapes; those for Cityscapes
AP have 20 masks. All functions are measured alternately in this process, and the best of the repeats is
reported. panopticapi and cityscapesscripts are measured too if they are installed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from timing import best

from kmax.data.formats.coco_panoptic import CategoryFacts, write_map
from kmax.data.formats.png import RGB, decode_ids, decode_labels, decode_rgb, open_png
from kmax.errors import InputWarnings
from kmax.evaluation import bootstrap
from kmax.evaluation.cityscapes import cityscapes_ap
from kmax.evaluation.cityscapes.cityscapes_format import find_frames
from kmax.evaluation.panoptic import pq
from kmax.evaluation.panoptic.explanation import explain_files
from kmax.evaluation.panoptic.image_segments import check_pair
from kmax.evaluation.panoptic.pairs import count_pairs
from kmax.evaluation.panoptic.panoptic_files import PanopticArguments

REPEATS = 7
CATEGORIES = [{"id": i, "name": str(i), "isthing": int(i < 81)} for i in range(1, 134)]
Times = dict[str, float]


def wavy_map(rng: np.random.Generator, height: int, width: int, segments: int) -> np.ndarray:
    """Ids 1..segments [H, W] in cells with wavy borders."""
    y, x = np.mgrid[:height, :width]
    waves = [rng.uniform(0.02, 0.08, 2) for _ in range(2)]
    y, x = y + 9 * np.sin(waves[0][0] * x) + 4 * np.sin(waves[0][1] * y), x + 9 * np.sin(waves[1][0] * y)
    centres = rng.uniform(0, 1, (segments, 2)) * (height, width)
    ids, nearest = np.zeros((height, width), np.int32), np.full((height, width), np.inf)
    for number, (cy, cx) in enumerate(centres, start=1):
        distance = (y - cy) ** 2 + (x - cx) ** 2
        ids[distance < nearest] = number
        nearest = np.minimum(nearest, distance)
    return ids


def panoptic_files(
    folder: Path, images: int, repeats: int = 1, shape: tuple[int, int] = (480, 640), segments: int = 15
) -> PanopticArguments:
    """Ground truth and predictions; each image is listed `repeats` times under different names."""
    rng = np.random.default_rng(0)
    sides: dict[str, list[dict[str, object]]] = {"gt": [], "pred": []}
    for number in range(images):
        truth = wavy_map(rng, *shape, segments)
        maps = {"gt": truth, "pred": np.roll(truth, rng.integers(-9, 10, 2), (0, 1))}
        for side, ids in maps.items():
            coded = ids * 70_003 % 2**24
            write_map(folder / side / f"{number}.png", coded)
            listed = [
                {"id": int(code), "category_id": int(i) % 133 + 1, "area": int(area), "iscrowd": 0}
                for i, area in zip(*np.unique(ids, return_counts=True), strict=True)
                for code in (i * 70_003 % 2**24,)
            ]
            for copy in range(repeats):
                name = f"{copy}_{number}.png"
                if repeats > 1:
                    os.link(folder / side / f"{number}.png", folder / side / name)
                else:
                    name = f"{number}.png"
                entry = {"image_id": number + copy * images, "file_name": name, "segments_info": listed}
                sides[side].append(entry)
    for side, entries in sides.items():
        content = {"categories": CATEGORIES, "annotations": entries}
        (folder / f"{side}.json").write_text(json.dumps(content))
    return PanopticArguments(folder / "gt.json", folder / "gt", folder / "pred.json", folder / "pred")


def cityscapes_files(folder: Path, frames: int) -> tuple[Path, Path]:
    """Frames of 2048x1024 with 20 instances, each predicted with an offset of a few pixels."""
    rng = np.random.default_rng(1)
    (folder / "val").mkdir(parents=True)
    (folder / "pred" / "masks").mkdir(parents=True)
    for number in range(frames):
        name = f"made_{number:06d}_000000"
        truth = np.full((1024, 2048), 7, np.uint16)
        lines = []
        for k in range(20):
            height, width = rng.integers(20, 300, 2)
            top, left = rng.integers(0, 1024 - height), rng.integers(0, 2048 - width)
            y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
            oval = y**2 + x**2 < 1
            truth[top : top + height, left : left + width][oval] = 26000 + k
        for k in range(20):
            mask = np.roll(truth == 26000 + k, rng.integers(-6, 7, 2), (0, 1)).astype(np.uint8) * 255
            Image.fromarray(mask).save(folder / "pred/masks" / f"{name}_{k}.png")
            lines.append(f"masks/{name}_{k}.png 26 {rng.random():.3f}\n")
        Image.fromarray(truth).save(folder / "val" / f"{name}_gtFine_instanceIds.png")
        (folder / "pred" / f"{name}_pred.txt").write_text("".join(lines))
    return folder / "val", folder / "pred"


def decoders() -> dict[str, Callable[[Path], object]]:
    """Decoders of greyscale and RGB PNGs, by name."""
    found: dict[str, Callable[[Path], object]] = {"Pillow": lambda path: np.asarray(Image.open(path))}
    with contextlib.suppress(ImportError):
        pyspng = importlib.import_module("pyspng")
        found["libspng"] = lambda path: pyspng.load(path.read_bytes())

    def ours(path: Path) -> object:
        png = open_png(path, "map")
        return decode_ids(png) if png.color_type == RGB else decode_labels(png)

    return found | {"kmax.data.formats.png": ours}


def decode_each(decode: Callable[[Path], object], paths: list[Path]) -> None:
    """Decode the files one by one. Keeping their pixels would take new memory, which costs as much time."""
    for path in paths:
        decode(path)


def official_pq(arguments: PanopticArguments) -> Callable[[], object] | None:
    """The official counts over all images in this process; None if it is not installed."""
    try:
        module = importlib.import_module("panopticapi.evaluation")
    except ImportError:
        return None

    def run() -> object:
        truth, predicted = (json.loads(path.read_text()) for path in (arguments.gt_json, arguments.pred_json))
        pairs = list(zip(truth["annotations"], predicted["annotations"], strict=True))
        categories = {category["id"]: category for category in truth["categories"]}
        with contextlib.redirect_stdout(io.StringIO()):
            return module.pq_compute_single_core(
                0, pairs, *map(str, (arguments.gt_dir, arguments.pred_dir)), categories
            )

    return run


def official_ap(truth: Path, predicted: Path) -> Callable[[], object] | None:
    """The official instance AP; None if it is not installed or too old for the installed numpy."""
    try:
        module = importlib.import_module("cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling")
    except ImportError:
        return None
    if not hasattr(np, "in1d"):
        return None
    frames, _ = find_frames(truth, predicted, "_gtFine_instanceIds.png", ".txt")
    module.writeDict2JSON = lambda *_: None  # its cache cannot store numpy's integers
    module.args.quiet, module.args.JSONOutput, module.args.predictionPath = True, False, str(predicted)
    module.args.gtInstancesFile = str(predicted / "none.json")

    def run() -> object:
        with contextlib.redirect_stdout(io.StringIO()):
            files = [str(f.predicted) for f in frames], [str(f.truth) for f in frames]
            return module.evaluateImgLists(*files, module.args)

    return run


def report(title: str, times: Times, ours: str, per: int) -> None:
    """Print milliseconds per image, and our time as a multiple of each."""
    print(f"\n{title}")
    for name, seconds in times.items():
        ratio = "" if name == ours else f"   ours takes {times[ours] / seconds:5.2f} times as long"
        print(f"  {name:<38}{1000 * seconds / per:>9.2f} ms{ratio}")


def panoptic_speed(folder: Path, images: int, shape: tuple[int, int], segments: int) -> None:
    """Panoptic quality from files, and matching alone from decoded pixels."""
    arguments = panoptic_files(folder, images, shape=shape, segments=segments)
    files = arguments.open()
    paths = [path for image in files.images for path in (image.truth_path, image.predicted_path)]
    classes = {category.id: index for index, category in enumerate(files.categories)}
    pixels = [
        (image, *(decode_rgb(open_png(path, "map")) for path in (image.truth_path, image.predicted_path)))
        for image in files.images
    ]

    def matching() -> None:
        for image, truth, predicted in pixels:
            pq.match(check_pair(image, count_pairs(truth, predicted), classes, InputWarnings()), len(classes))

    functions: dict[str, Callable[[], object]] = {
        f"decoding alone, {name}": lambda decode=decode: decode_each(decode, paths)
        for name, decode in decoders().items()
    }
    functions["matching alone, ids packed"] = matching
    functions["kmax, from files to scores"] = lambda: pq.evaluate_files(arguments)
    functions["kmax, and where quality is lost"] = lambda: explain_files(arguments)
    theirs = official_pq(arguments)
    if theirs is not None:
        functions["panopticapi, from files to counts"] = theirs
    title = f"Panoptic quality, per pair of {shape[1]}x{shape[0]} with {segments} segments"
    report(title, best(functions, REPEATS), "kmax, from files to scores", images)


def cityscapes_speed(folder: Path, frames: int) -> None:
    """Cityscapes instance AP from files."""
    truth, predicted = cityscapes_files(folder, frames)
    paths = [*truth.glob("*.png"), *predicted.glob("masks/*.png")]
    functions: dict[str, Callable[[], object]] = {
        f"decoding alone, {name}": lambda decode=decode: decode_each(decode, paths)
        for name, decode in decoders().items()
    }
    functions["kmax, from files to scores"] = lambda: cityscapes_ap.evaluate_files(truth, predicted)
    theirs = official_ap(truth, predicted)
    if theirs is not None:
        functions["cityscapesscripts"] = theirs
    times = best(functions, 3)
    report("Cityscapes AP, per 2048x1024 frame of 20 masks", times, "kmax, from files to scores", frames)


def bootstrap_speed() -> None:
    """Confidence intervals of panoptic quality for 5,000 images and 133 classes."""
    rng = np.random.default_rng(0)
    tp, fp, fn = rng.integers(0, 3, (3, 5000, 133)).astype(float)
    categories = [CategoryFacts(c["id"], c["name"], c["isthing"] == 1) for c in CATEGORIES]  # type: ignore[arg-type]
    result = pq.PQResult(categories, list(range(5000)), pq.Counts(0.8 * tp, tp, fp, fn), [])
    start = time.process_time()
    bootstrap.intervals(result, None, samples=1000, seed=0)
    print(f"\nBootstrap, 1,000 resamples of 5,000 images: {time.process_time() - start:.1f} s of CPU time")


def many_images(folder: Path, counts: list[int], workers: int) -> None:
    """Time and peak memory of all processes together, for increasing numbers of images."""
    print(f"\nMany images, {workers} processes (memory: parent and workers, shared pages counted in each)")
    for count in counts:
        inside = folder / str(count)
        arguments = panoptic_files(inside, 25, count // 25)
        paths = arguments.gt_json, arguments.gt_dir, arguments.pred_json, arguments.pred_dir
        command = [sys.executable, "-c", _MEASURE, *map(str, paths), str(workers)]
        seconds, megabytes = subprocess.run(
            command, check=True, capture_output=True, text=True
        ).stdout.split()
        print(f"  {count:>6} images {float(seconds):>8.1f} s of CPU time {float(megabytes):>8.0f} MB")


_MEASURE = """
import resource, sys
from pathlib import Path
from kmax.evaluation.panoptic.panoptic_files import PanopticArguments
from kmax.evaluation.panoptic.pq import evaluate_files
workers = int(sys.argv[5])
evaluate_files(PanopticArguments(*map(Path, sys.argv[1:5]), workers=workers))
own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
spent = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
# Not ru_maxrss, which includes the peak of the parent process.
peak = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
extra = workers * children.ru_maxrss if workers > 1 else 0
print(spent, (peak + extra) / 1024)
"""


def main() -> None:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=40, help="pairs of maps for panoptic quality")
    parser.add_argument("--frames", type=int, default=8, help="Cityscapes frames")
    parser.add_argument("--many", type=int, default=5000, help="images in the memory test; 0 skips it")
    parser.add_argument("--workers", type=int, default=2, help="processes in the memory test")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        panoptic_speed(Path(folder) / "panoptic", arguments.images, (480, 640), 15)
        panoptic_speed(Path(folder) / "large", max(1, arguments.images // 8), (1024, 2048), 30)
        cityscapes_speed(Path(folder) / "cityscapes", arguments.frames)
        bootstrap_speed()
        if arguments.many:
            counts = [arguments.many // 4, arguments.many // 2, arguments.many]
            many_images(Path(folder) / "many", counts, arguments.workers)
    print(
        f"\npeak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
    )


if __name__ == "__main__":
    main()
