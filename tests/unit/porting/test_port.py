"""A ported model computes what the checkpoint's model computed, and every tensor is accounted for."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from run_entries import sections

from kmax.config import Run
from kmax.errors import InputError
from kmax.model.io import load_model
from kmax.parameter_files import load
from kmax.porting import fetch_weights, port_file, port_run

PORT_FILE = {"dataset": "shapes", "image_size": (65, 65), "num_clusters": 4, "flavour": "tf"}


def state(model, tmp_path: Path, change=None) -> Path:
    tensors = dict(model.state_dict())
    if change:
        change(tensors)
    torch.save({"state_dict": tensors}, tmp_path / "w.pth")
    return tmp_path / "w.pth"


def ported_run(project: Path, source: str = "torch") -> Run:
    """shapes-smoke, but ported."""
    content = sections("shapes-smoke") | {"run": "shapes-ported"}
    content["data"]["image_size"] = [65, 65]
    content["model"]["num_clusters"] = 4
    del content["train"]
    content["port"] = {"weights": "tiny", "source": source}
    path = project / "shapes-ported.yaml"
    path.write_text(yaml.safe_dump(content))
    return load(Run, path)


def test_port_file_gives_the_same_model_and_an_account(project, model, tmp_path) -> None:
    out = port_file("torch", state(model, tmp_path), Path("out/m.safetensors"), "kmax_tiny", **PORT_FILE)
    ported, metadata = load_model(out)
    assert [category.name for category in metadata.categories][:2] == ["circle", "ring"]
    assert {"source", "sha256", "flavour", "commit"} <= metadata.extra.keys()
    images = torch.rand(1, 3, 65, 65) * 2 - 1
    with torch.no_grad():
        assert torch.equal(ported(images).mask_logits, model.eval()(images).mask_logits)
    report = json.loads(Path("out/m.port.json").read_text())
    assert report["counts"] == {"mapped": len(model.state_dict())}
    assert {line["name"] for line in report["tensors"]} == model.state_dict().keys()


def test_an_unknown_flavour_is_asked_for(project, model, tmp_path) -> None:
    with pytest.raises(InputError, match="the original implementation cannot be determined from the file"):
        port_file(
            "torch",
            state(model, tmp_path),
            Path("m.safetensors"),
            "kmax_tiny",
            **(PORT_FILE | {"flavour": None}),
        )
    assert not Path("m.safetensors").exists()


def test_half_precision_checkpoints_become_fp32(project, model, tmp_path) -> None:
    checkpoint = state(
        model, tmp_path, lambda tensors: tensors.update({k: v.half() for k, v in tensors.items()})
    )
    ported, _ = load_model(port_file("torch", checkpoint, Path("m.safetensors"), "kmax_tiny", **PORT_FILE))
    assert all(tensor.dtype == torch.float32 for tensor in ported.state_dict().values())


def test_tensors_that_do_not_fit_are_all_named_and_nothing_is_written(project, model, tmp_path) -> None:
    names = sorted(model.state_dict())

    def change(tensors) -> None:
        del tensors[names[0]]
        tensors["head.extra"] = torch.zeros(3)
        tensors[names[1]] = torch.zeros(2, 3, 5, 7, 9)
        tensors[names[2]] = torch.full_like(tensors[names[2]], float("nan"))
        tensors[names[3]] = torch.zeros(tensors[names[3]].shape, dtype=torch.int64)
        tensors[names[4]] = torch.full(tensors[names[4]].shape, 1e300, dtype=torch.float64)

    with pytest.raises(InputError) as caught:
        port_file("torch", state(model, tmp_path, change), Path("m.safetensors"), "kmax_tiny", **PORT_FILE)
    counts, *faults = caught.value.faults
    assert "1 missing, 2 not finite, 1 unexpected, 1 wrong shape, 1 wrong type" in counts
    assert len(faults) == 6
    for name in ("head.extra", *names[:5]):
        assert any(fault.startswith(f"{name}: ") for fault in faults)
    assert not list(project.glob("m.*"))


@pytest.mark.parametrize(
    ("other", "advice"),
    [
        ({"num_clusters": 16}, "the weights have 4 clusters, but the model has 16"),
        ({"dataset": "coco"}, "the weights predict 8 classes, but dataset 'coco' has 133"),
    ],
    ids=["clusters", "classes"],
)
def test_sizes_of_other_weights_are_reported_before_their_tensors(
    other, advice, project, model, tmp_path
) -> None:
    with pytest.raises(InputError) as caught:
        port_file("torch", state(model, tmp_path), Path("m.safetensors"), "kmax_tiny", **(PORT_FILE | other))
    counts, line, tensor, *_ = caught.value.lines()
    assert "does not fit the model" in counts
    assert line.startswith(advice)
    assert "the model needs" in tensor


def test_port_run_writes_model_and_report(project, register, model, tmp_path) -> None:
    register("tiny", state(model, tmp_path), "torch")
    run = ported_run(project)
    with pytest.raises(InputError, match="run: kmax weights fetch tiny"):
        port_run(run)
    fetch_weights("tiny")
    path = port_run(run)
    assert path == Path("results/shapes-ported/model.safetensors")
    _, metadata = load_model(path)
    assert metadata.extra["source"] == str(tmp_path / "w.pth")
    assert metadata.extra["predict"] == run.predict.model_dump()
    report = json.loads(Path("results/shapes-ported/port.json").read_text())
    assert report["counts"].keys() == {"mapped"}


def test_port_run_notices_that_the_entry_has_changed(project, register, model, tmp_path) -> None:
    register("tiny", state(model, tmp_path), "torch")
    fetch_weights("tiny")
    register("tiny", tmp_path / "w.pth", "torch", sha256="0" * 64)
    with pytest.raises(InputError, match=r"not the file named in params/weights\.yaml"):
        port_run(ported_run(project))
