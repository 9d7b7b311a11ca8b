"""Weights of both originals by their own names, of a network with ResNet-50's parts at small widths."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from kmax.config import model_sizes
from kmax.model.create import create_model
from kmax.porting.tensorflow_names import tensorflow_entries
from kmax.porting.torch_names import torch_reference_entries

NAME = "kmax_resnet50"
ARGUMENTS = {"num_classes": 8, "image_size": (65, 65), "num_clusters": 4}
PORT_FILE = {"dataset": "shapes", "image_size": (65, 65), "num_clusters": 4}


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of ResNet-50's variables at widths of a hundredth of its memory."""
    tiny = model_sizes.SIZES["kmax_tiny"]
    options = (("channels", (8, 8, 8, 8)), ("stem_width", 8), ("zero_init_last", False))
    encoder = model_sizes.ResNetSize("resnet50", options=options)
    monkeypatch.setitem(model_sizes.SIZES, NAME, dataclasses.replace(tiny, encoder=encoder))


def values(shape: tuple[int, ...], name: str) -> np.ndarray:
    random = np.random.default_rng(sum(name.encode()))
    low, high = (0.5, 1.5) if "varian" in name or "_var" in name else (-0.3, 0.3)
    return random.uniform(low, high, shape).astype(np.float32)


def weights(flavour: str) -> dict[str, np.ndarray]:
    """All variables of an original's model."""
    model = create_model(NAME, flavour=flavour, **ARGUMENTS)
    entries = {"tf": tensorflow_entries, "torch": torch_reference_entries}[flavour](model)
    found = {}
    for entry in entries:
        for name, shape in zip(entry.sources, entry.source_shapes, strict=True):
            found[name] = values(shape, name)
    return found
