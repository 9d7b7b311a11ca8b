"""A download killed at any moment leaves only complete files, and a state that the next call resumes.

Two ways to reach every moment: the server kills the process when it has sent so many bytes, and the process
kills itself at the n-th of its system calls that name a file (all of them are seen by an audit hook).
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty_server import Server
from true_layouts import Packed, ade20k, coco, describe, files_below

from kmax.data.dataset_file import load_dataset, raw_root
from kmax.data.download.download_dataset import download

ROUNDS = int(os.environ.get("KMAX_KILLS", "3"))
SEED = int(os.environ.get("KMAX_KILLS_SEED", "0"))
CHILD = """
import os, signal, sys
from kmax.data.download.download_dataset import download
name, moment = sys.argv[1], int(sys.argv[2])
seen = 0
def hook(event, arguments):
    global seen
    if event.startswith(("open", "os.", "shutil.", "tempfile.", "fcntl.")):
        seen += 1
        if seen == moment:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
print(download(name))
print(seen)
"""


def start(dataset: str, moment: int) -> subprocess.Popen:
    """A process that downloads, and kills itself at a moment; 0: never."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, dataset, str(moment)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def require_whole(packed: Packed, root: Path) -> None:
    """All that is there is a file of the dataset, whole."""
    for name, content in files_below(root).items():
        if name != "manifest.json":
            assert packed.content[name] == content, name


def finish(packed: Packed, root: Path) -> None:
    """The next call ends well, with the same manifest as one that nobody killed."""
    record = json.loads(download(packed.dataset).read_text())
    assert files_below(root) == packed.content
    assert record["files"].keys() <= packed.content.keys()
    assert not list(Path("data").rglob("*.tmp"))
    kept = {path.name for path in (root / ".downloads").iterdir()}
    assert kept == {"lock", *(f"{name}.unpacked.json" for name in packed.archives)}


@pytest.mark.parametrize("make", [coco, ade20k])
def test_killed_at_any_system_call_several_times(
    make: Callable[[], Packed], data_root: Path, server: Server
) -> None:
    packed = make()
    describe(packed, server)
    root = raw_root(load_dataset(packed.dataset))
    rng = random.Random(SEED)
    for _ in range(ROUNDS):
        process = start(packed.dataset, rng.randrange(1, 200))
        _, faults = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), faults
        require_whole(packed, root)
    finish(packed, root)


def test_killed_while_bytes_come(data_root: Path, server: Server) -> None:
    packed = coco()
    describe(packed, server)
    rng = random.Random(SEED)
    running: list[subprocess.Popen] = []
    lock = threading.Lock()
    left = [0]

    def count(_: int) -> None:
        with lock:
            left[0] -= 1
            if left[0] == 0:
                running[-1].kill()

    for served in server.files.values():
        served.during = count
    killed = 0
    for _ in range(ROUNDS):
        left[0] = rng.randrange(1, 14)  # pieces of 4096 bytes
        process = start("coco", 0)
        running.append(process)
        _, faults = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), faults
        killed += process.returncode != 0
        require_whole(packed, data_root / "coco")
    left[0] = 0
    finish(packed, data_root / "coco")
    assert killed
