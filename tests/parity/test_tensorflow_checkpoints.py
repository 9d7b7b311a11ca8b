"""Checkpoints that TensorFlow writes are read without it, every tensor bit for bit, for all configs."""

import json
import os
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

from kmax.porting.formats.tf_format import Bundle

CONFIGS = [
    "coco_r50",
    "coco_axial_r50",
    "coco_convnext_tiny",
    "coco_convnext_small",
    "coco_convnext_base",
    "coco_convnext_large",
    "cityscapes_r50",
    "cityscapes_convnext_large",
    "ade20k_r50",
    "ade20k_convnext_large",
]


@pytest.fixture(scope="module")
def python() -> str:
    """A Python with TensorFlow, of `make setup-tensorflow`."""
    found = os.environ.get("KMAX_TENSORFLOW_PYTHON", "")
    if Path(found).is_file():
        return found
    reason = "no TensorFlow: make setup-tensorflow, or KMAX_TENSORFLOW_PYTHON=a Python that has it"
    if os.environ.get("KMAX_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_tensor_of_a_checkpoint_is_read_as_written(golden, python, tmp_path, config):
    variables = golden / "tf_reference" / f"{config}_variables.json"
    prefix = tmp_path / "ckpt-150000"
    command = [python, str(Path(__file__).with_name("write_checkpoint.py")), str(variables), str(prefix)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr[-3000:]
    written = json.loads(answer.stdout)["tensors"]
    read = Bundle(prefix)
    assert read.keys() == written.keys()
    for name in read:
        array = read[name]
        assert [list(array.shape), array.dtype.name, zlib.crc32(np.ascontiguousarray(array))] == written[name]
    for path in read.files():  # up to 1 GB, which pytest would keep
        path.unlink()
