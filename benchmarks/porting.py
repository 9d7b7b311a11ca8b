"""Time and memory of porting ConvNeXt-Large (about 1 GB) from TensorFlow, compared with copying its bytes.

    python benchmarks/porting.py FOLDER

Writes a checkpoint with the right names and shapes into FOLDER (2.2 GB of disk in total, removed at the end),
copies its bytes with fsync, ports it, and prints both times, the peak memory, and their ratios. The targets
are at most 1.5 (time) and 2.2 (memory).
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/unit/porting"))
SIZE = (1281, 1281)
REPEATS = 5


def write(folder: Path) -> int:
    """Write the checkpoint and return the size of its weights in bytes."""
    from bundle_writer import bundle

    from kmax import create_model
    from kmax.porting.tensorflow_names import tensorflow_entries

    with torch.device("meta"):
        model = create_model("kmax_convnext_large", num_classes=133, image_size=SIZE)
    random = np.random.default_rng(0).standard_normal(1 << 20, dtype=np.float32)
    arrays = {}
    for entry in tensorflow_entries(model):
        for name, shape in zip(entry.sources, entry.source_shapes, strict=True):
            arrays[name] = np.resize(random, shape)
    bundle(folder / "ckpt-1", arrays)
    return sum(array.nbytes for array in arrays.values())


def move(folder: Path) -> float:
    """Seconds to read the bytes of the checkpoint and write them with fsync."""
    begun = time.perf_counter()
    with open(folder / "copy", "wb", buffering=0) as target:
        for path in sorted(folder.glob("ckpt-1.*")):
            with open(path, "rb", buffering=0) as source:
                while block := source.read(1 << 23):
                    target.write(block)
        os.fsync(target.fileno())
    seconds = time.perf_counter() - begun
    (folder / "copy").unlink()
    return seconds


def port(folder: Path) -> None:
    """Copy the bytes, port them, and print the seconds of both and the peak memory of this process.

    On a virtual machine, memory that was not used recently is more expensive to obtain than to fill. Both
    measurements therefore start after the removal of a file, whose memory they can reuse.
    """
    from kmax.porting import port_file

    os.chdir(ROOT)
    move(folder)
    moved = move(folder)
    begun = time.perf_counter()
    port_file(
        "tf",
        folder / "ckpt-1",
        folder / "out.safetensors",
        "kmax_convnext_large",
        dataset="coco",
        image_size=SIZE,
    )
    seconds = time.perf_counter() - begun
    (folder / "out.safetensors").unlink()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"moved": moved, "ported": seconds, "peak": peak * 1024}))


def _call(folder: Path, what: str) -> str:
    command = [sys.executable, __file__, str(folder), what]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return answer.stdout.splitlines()[-1]


def main(folder: Path) -> None:
    """Measure several times, each in a separate process, and report the best."""
    folder.mkdir(parents=True, exist_ok=True)
    size = int(_call(folder, "write"))  # in a process: a child inherits the peak memory of its parent
    found = [json.loads(_call(folder, "port")) for _ in range(REPEATS)]
    for path in folder.iterdir():
        path.unlink()
    moved, ported = (min(each[what] for each in found) for what in ("moved", "ported"))
    peak = max(each["peak"] for each in found)
    print(f"weights {size / 1e9:.2f} GB; copied with fsync in {moved:.2f} s")
    print(f"ported in {ported:.2f} s")
    print(f"time ratio {ported / moved:.2f} (target: at most 1.5)")
    print(
        f"peak memory {peak / 1e9:.2f} GB, including the program; ratio to the weights {peak / size:.2f} "
        "(target: at most 2.2)"
    )


if __name__ == "__main__":
    match sys.argv[2:]:
        case ["port"]:
            port(Path(sys.argv[1]))
        case ["write"]:
            print(write(Path(sys.argv[1])))
        case _:
            main(Path(sys.argv[1]))
