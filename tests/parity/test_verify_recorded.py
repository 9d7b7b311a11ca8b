"""`--verify --recorded`: full-size weights of an original, ported from a file, give its recorded outputs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from forward_golden import CARRIED, arguments_of
from safetensors.torch import save_file
from weight_rule import tf_weights, torch_weights

from kmax import stages
from kmax.model.construction import shapes_only
from kmax.porting.tensorflow_names import tensorflow_entries
from kmax.porting.torch_names import torch_reference_entries

ROOT = Path(__file__).resolve().parents[2]
CASES = {"tf": "forward_coco_r50_129.npz", "torch": "forward_coco_r50.npz"}


def write_checkpoint(flavour: str, folder: Path) -> tuple[str, Path]:
    """Weights of the rule by the original's names; returns kind and path of the file."""
    arguments = arguments_of("coco_r50") | {"flavour": flavour, "image_size": (129, 129)}
    model = shapes_only(**arguments)
    listed, rule = {
        "tf": (tensorflow_entries, tf_weights),
        "torch": (torch_reference_entries, torch_weights),
    }[flavour]
    arrays = rule((e.sources[0], e.source_shapes[0]) for e in listed(model))
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if flavour == "torch":
        torch.save({"model": tensors}, folder / "r50.pth")
        return "torch", folder / "r50.pth"
    save_file(tensors, folder / "r50.safetensors")
    return "safetensors", folder / "r50.safetensors"


@pytest.mark.parametrize("flavour", ["tf", "torch"])
def test_a_ported_checkpoint_gives_what_was_recorded(tmp_path, monkeypatch, flavour) -> None:
    monkeypatch.chdir(ROOT)
    kind, checkpoint = write_checkpoint(flavour, tmp_path)
    lines: list[str] = []
    out = stages.port_file(
        kind,
        checkpoint,
        tmp_path / "w.safetensors",
        "kmax_resnet50",
        recorded=CARRIED / flavour / CASES[flavour],
        log=lines.append,
        dataset="coco",
        image_size=(129, 129),
    )
    assert out.is_file()
    assert sum(": relative rms deviation" in line for line in lines) >= 3
    assert "agrees with" in lines[-1]
