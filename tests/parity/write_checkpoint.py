"""Run by a Python that has TensorFlow: writes a checkpoint of deterministic weights, and their checksums.

python write_checkpoint.py VARIABLES.json PREFIX: the tensors' names and shapes are those of the JSON, their
values those of the rule in it. TensorFlow's own kernel writes them, as in training.
"""

import json
import os
import sys
import zlib
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


def value(key, shape, kind):
    """The weight of this name."""
    random = np.random.RandomState(zlib.crc32(key.encode()))
    normal = random.standard_normal
    if kind in ("conv2d_kernel", "conv1d_kernel", "dense_kernel"):
        axes = tuple(range(len(shape) - 1))
        weight = normal(shape) / np.sqrt(np.prod(shape[:-1]))
        return weight - weight.mean(axis=axes, keepdims=True)
    return {
        "depthwise_kernel": lambda: normal(shape) / np.sqrt(np.prod(shape[:2])),
        "bias": lambda: 0.05 * normal(shape),
        "gamma": lambda: random.uniform(0.5, 1.5, shape),
        "beta": lambda: 0.1 * normal(shape),
        "moving_mean": lambda: 0.1 * normal(shape),
        "moving_variance": lambda: random.uniform(0.5, 1.5, shape),
        "kmeans_moving_variance": lambda: random.uniform(2e4, 6e4, shape),
        "layer_scale": lambda: random.uniform(0.1, 0.5, shape),
        "embedding": lambda: 0.5 * normal(shape),
        "cluster_centers": lambda: 0.5 * normal(shape),
        "counter": lambda: np.array(150000),
    }[kind]()


def main(variables, prefix):
    import tensorflow as tf

    names, tensors, facts = [], [], {}
    for name, shape, dtype, kind, total in json.loads(Path(variables).read_text())["variables"]:
        wide = np.asarray(value(name, shape, kind))
        if total is not None and not np.isclose(wide.sum(dtype=np.float64), total, rtol=1e-9, atol=1e-9):
            sys.exit(f"{name}: the rule gives another sum than recorded")
        array = wide.astype(dtype)
        names.append(name)
        tensors.append(tf.constant(array))
        facts[name] = [list(array.shape), array.dtype.name, zlib.crc32(array.tobytes())]
    slices = [""] * len(names)
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=names, shape_and_slices=slices, tensors=tensors)
    json.dump({"tensorflow": tf.__version__, "tensors": facts}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
