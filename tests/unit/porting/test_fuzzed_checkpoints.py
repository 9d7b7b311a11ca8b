"""Any checkpoint file is read or gives an error message, quickly and within bounded memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

KINDS = ("index", "shard", "entries", "blocks", "bombs", "archive", "inside", "old", "arrays", "opcodes")


def fuzz(folder: Path, count: int, seed: int) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__).with_name("fuzz.py")), str(count), str(seed), str(folder)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-3000:]
    print(answer.stdout)
    found = json.loads(answer.stdout)
    assert all(found.get(f"{kind} refused", 0) > 0 for kind in KINDS)
    return found


def test_corrupt_checkpoints_are_read_or_refused(tmp_path):
    assert fuzz(tmp_path, 3000, seed=1)["inputs"] == 3000


@pytest.mark.long
def test_200_000_corrupt_checkpoints_are_read_or_refused(tmp_path):
    assert sum(fuzz(tmp_path, 50_000, seed)["inputs"] for seed in range(2, 6)) == 200_000
