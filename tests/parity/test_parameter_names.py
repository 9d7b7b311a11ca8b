"""Every tensor of the originals' full-size models has its place in ours, and every one of ours its source."""

import json
from pathlib import Path

import pytest
import torch
from forward_golden import arguments_of
from weight_rule import tf_kind, tf_value, torch_kind, torch_value

import kmax
from kmax.errors import InputError
from kmax.model.kmax import KMaX
from kmax.porting import convert_tf, convert_torch_reference
from kmax.porting.tensorflow_names import skipped_tf, tensorflow_entries
from kmax.porting.torch_names import skipped_torch_reference, torch_reference_entries

BACKBONES = ["r50", "convnext_large"]
TORCH_CONFIGS = [f"coco_convnext_{size}" for size in ("tiny", "small", "base", "large")]
TORCH_CONFIGS += ["coco_r50"] + [f"{d}_{b}" for d in ("cityscapes", "ade20k") for b in BACKBONES]
TF_CONFIGS = [*TORCH_CONFIGS, "coco_axial_r50"]


def full_size(config: str, flavour: str) -> KMaX:
    size = (1025, 2049) if config.startswith("cityscapes") else (1281, 1281)
    with torch.device("meta"):
        return kmax.create_model(**arguments_of(config), flavour=flavour, image_size=size)


def parameters(model: KMaX) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("config", TF_CONFIGS)
def test_variables_of_deeplab2(golden: Path, config: str) -> None:
    record = json.loads((golden / "tf_reference" / f"{config}_variables.json").read_text())
    model = full_size(config, "tf")
    entries = tensorflow_entries(model)
    ours = {entry.sources[0]: entry.source_shapes[0] for entry in entries}
    listed = {name: tuple(shape) for name, shape, *_ in record["variables"] if skipped_tf(name) is None}
    assert ours == listed
    assert sorted(entry.target for entry in entries) == sorted(model.state_dict())
    assert parameters(model) == record["n_trainable_params"]
    assert parameters(model.pixel_encoder) == record["n_trainable_params_encoder"]


@pytest.mark.parametrize("config", TORCH_CONFIGS)
def test_tensors_of_the_pytorch_original(golden: Path, config: str) -> None:
    record = json.loads((golden / "torch_reference" / "state_dict" / f"{config}.json").read_text())
    model = full_size(config, "torch")
    entries = torch_reference_entries(model)
    ours = {entry.sources[0]: entry.source_shapes[0] for entry in entries}
    rows = [(name, tuple(shape)) for name, shape, *_ in record["rows"]]
    assert ours == {name: shape for name, shape in rows if skipped_torch_reference(name) is None}
    assert sorted(entry.target for entry in entries) == sorted(model.state_dict())
    assert parameters(model) == record["num_params_trainable"]


def test_training_checkpoints_hold_nothing_else(golden: Path) -> None:
    record = json.loads((golden / "tf_reference" / "training_checkpoint_extra_keys.json").read_text())
    extra = [name for config in record.values() for name in names_in(config)]
    assert extra
    assert [name for name in extra if skipped_tf(name) is None] == []


def names_in(value: object) -> list[str]:
    """All variable names in a record, whatever it is nested in."""
    if isinstance(value, str):
        return [value] if value.endswith("VARIABLE_VALUE") else []
    if isinstance(value, dict):
        return [name for pair in value.items() for part in pair for name in names_in(part)]
    return [name for part in value for name in names_in(part)] if isinstance(value, list) else []


def test_the_rule_gives_the_recorded_sums(golden: Path) -> None:
    """That the weights of the forward tests are those of the recorded runs."""
    record = json.loads((golden / "tf_reference" / "coco_r50_variables.json").read_text())
    for name, shape, _, kind, total in record["variables"][::40]:
        if skipped_tf(name) is None:
            assert tf_kind(name, tuple(shape)) == kind
            assert tf_value(name, tuple(shape)).sum() == pytest.approx(total, rel=1e-9, abs=1e-6)
    record = json.loads((golden / "torch_reference" / "state_dict" / "coco_r50.json").read_text())
    for name, shape, _, kind, _, total in record["rows"][::40]:
        assert torch_kind(name, tuple(shape)) == kind
        assert torch_value(name, tuple(shape)).sum() == pytest.approx(total, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize(
    ("flavour", "entries", "convert"),
    [
        ("tf", tensorflow_entries, convert_tf),
        ("torch", torch_reference_entries, convert_torch_reference),
    ],
)
def test_every_wrong_tensor_is_named(flavour: str, entries, convert) -> None:
    model = full_size("coco_r50", flavour)
    source = {e.sources[0]: torch.empty(e.source_shapes[0], device="meta") for e in entries(model)}
    assert convert(source, model).keys() == model.state_dict().keys()
    missing, reshaped, retyped, *_ = source
    del source[missing]
    source[reshaped] = torch.empty(3, 3, device="meta")
    source[retyped] = source[retyped].int()
    source["stranger"] = torch.empty(1)
    with pytest.raises(InputError) as error:
        convert(source, model)
    assert len(error.value.faults) == 4
    for name, said in (
        (missing, "missing"),
        (reshaped, "shape [3, 3]"),
        (retyped, "int32"),
        ("stranger", "unexpected tensor"),
    ):
        assert any(fault.startswith(f"{name}: ") and said in fault for fault in error.value.faults)
