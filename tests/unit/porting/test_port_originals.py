"""From an archive on a server to a model: weights of both originals, by the names they are published with."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from bundle_writer import bundle
from run_entries import sections
from small_originals import ARGUMENTS, NAME, PORT_FILE, shrink, weights
from test_fetch_weights import bytes_of, serving

from kmax import stages
from kmax.config import Run
from kmax.data.loading.loader import network_input
from kmax.errors import InputError
from kmax.inference.predict_images import predict_images
from kmax.inference.segment_batch import segment_images
from kmax.model.create import create_model
from kmax.model.io import load_model
from kmax.model.output import Output
from kmax.parameter_files import load
from kmax.porting import convert_tf, convert_torch_reference, fetch_weights, port_file, port_run
from kmax.porting.formats.tf_format import Bundle
from kmax.porting.recorded import read_recording
from kmax.porting.verify import bundled_image, verify_file


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)


@pytest.fixture
def tensorflow(tmp_path: Path) -> Path:
    """A training checkpoint: weights, counters, and the state of the optimisers."""
    variables = weights("tf")
    slot = "/.OPTIMIZER_SLOT/optimizer/m/.ATTRIBUTES/VARIABLE_VALUE"
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
    slots = {name.removesuffix(suffix) + slot: array for name, array in list(variables.items())[:9]}
    counters = {
        f"{name}{suffix}": np.array(7, np.int64) for name in ("global_step", "save_counter", "optimizer/iter")
    }
    folder = tmp_path / "tf"
    folder.mkdir()
    return bundle(folder / "ckpt-7", variables | slots | counters, shards=2)


def archive(prefix: Path) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for path in sorted(prefix.parent.iterdir()):
            tar.add(path, f"kmax_resnet50/{path.name}")
        evil = tarfile.TarInfo("../../evil.index")
        evil.type, evil.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(evil)
    return stream.getvalue()


def ported_run(project: Path, source: str, flavour: str) -> Run:
    content = sections("shapes-smoke")
    content |= {"run": "shapes-ported", "port": {"weights": "published", "source": source}}
    content["data"]["image_size"] = [65, 65]
    content["model"] |= {"name": NAME, "num_clusters": 4, "flavour": flavour}
    del content["train"]
    (project / "shapes-ported.yaml").write_text(yaml.safe_dump(content))
    return load(Run, project / "shapes-ported.yaml")


def entry_of(project: Path, **entry: str) -> None:
    content = {"weights": {"published": {"description": "test", **entry}}}
    (project / "params/weights.yaml").write_text(yaml.safe_dump(content))


def assert_equal(path: Path, state: dict[str, torch.Tensor]) -> None:
    model, _ = load_model(path)
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_run_is_ported_from_an_archive_of_tensorflow(project, tensorflow):
    with serving(bytes_of(archive(tensorflow))) as url:
        entry_of(project, url=f"{url}/kmax.tar.gz", format="tf")
        fetched = fetch_weights("published")
    run = ported_run(project, "tf", "tf")
    path = port_run(run)
    model = create_model(NAME, flavour="tf", **ARGUMENTS)
    assert_equal(path, convert_tf(Bundle(tensorflow), model, thing_classes=range(4)))
    report = json.loads(Path("results/shapes-ported/port.json").read_text())
    assert report["counts"] == {"mapped": len(weights("tf")), "skipped": 12}
    assert {line["reason"] for line in report["tensors"] if line["status"] == "skipped"}
    assert all(len(line["crc32c"]) == 8 for line in report["tensors"] if line["status"] == "mapped")
    assert not list(Path("data/weights").glob(".*"))
    before = fetched.stat().st_mtime_ns
    assert fetch_weights("published").stat().st_mtime_ns == before  # the server is gone: nothing is fetched


def test_a_digest_that_nobody_states_is_recorded_and_checked_ever_after(project, tensorflow):
    content = archive(tensorflow)
    with serving(bytes_of(content)) as url:
        entry_of(project, url=f"{url}/kmax.tar.gz", format="tf")
        fetch_weights("published").unlink()
        recorded = json.loads(Path("params/weights.recorded.json").read_text())["weights"]["published"]
        assert recorded["source"] == f"{url}/kmax.tar.gz"
        fetch_weights("published").unlink()
        Path("params/weights.recorded.json").write_text(
            json.dumps({"weights": {"published": recorded | {"sha256": "0" * 64}}})
        )
        with pytest.raises(InputError, match=r"weights\.recorded\.json says 0000"):
            fetch_weights("published")
    assert not list(Path("data/weights").iterdir())


def test_a_run_is_ported_from_a_state_dict_of_the_pytorch_original(project, tmp_path):
    state = {name: torch.from_numpy(array) for name, array in weights("torch").items()}
    counters = {"backbone.stem.conv1.norm.num_batches_tracked": torch.tensor(3)}
    torch.save({"model": state | counters, "iteration": 3}, tmp_path / "model_final.pth")
    entry_of(project, path=str(tmp_path / "model_final.pth"), format="torch")
    fetch_weights("published")
    path = port_run(ported_run(project, "torch", "torch"))
    assert_equal(path, convert_torch_reference(state, create_model(NAME, flavour="torch", **ARGUMENTS)))


def test_a_web_page_instead_of_a_file_is_refused(project):
    with serving(bytes_of(b"<!DOCTYPE html><html>too large to scan</html>")) as url:
        entry_of(project, url=f"{url}/w.pth", format="torch")
        with pytest.raises(InputError, match="sent a web page instead of a file"):
            fetch_weights("published")


def test_the_flavour_is_that_of_the_weights_and_no_other(project, tensorflow):
    path = port_file("tf", tensorflow.parent, Path("m.safetensors"), NAME, **PORT_FILE)
    _, metadata = load_model(path)
    assert metadata.arguments.flavour == metadata.extra["flavour"] == "tf"
    assert len(metadata.extra["sha256"]) == 64
    assert set(metadata.extra["sha256"]) != {"0"}
    with pytest.raises(InputError, match="looks like weights of the TensorFlow original"):
        port_file("tf", tensorflow, Path("n.safetensors"), NAME, flavour="torch", **PORT_FILE)
    with pytest.raises(InputError, match="states flavour 'tf', but flavour is 'torch'"):
        port_file("safetensors", path, Path("n.safetensors"), NAME, flavour="torch", **PORT_FILE)
    entry_of(project, path=str(tensorflow), format="tf")
    fetch_weights("published")
    with pytest.raises(InputError, match=r"port\.source is 'torch', but .* TensorFlow original.* source: tf"):
        port_run(ported_run(project, "torch", "tf"))


def test_weights_of_other_classes_are_refused_with_their_number(project, tensorflow):
    arguments = PORT_FILE | {"dataset": "coco"}
    with pytest.raises(InputError, match="predict 8 classes, but dataset 'coco' has 133"):
        port_file("tf", tensorflow, Path("m.safetensors"), NAME, **arguments)


def test_missing_extra_misshapen_and_orphaned_tensors_are_all_named(project, tmp_path):
    variables = weights("tf")
    names = sorted(variables)
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
    slot = f"{names[0].removesuffix(suffix)}/.OPTIMIZER_SLOT/optimizer/v{suffix}"
    changed = {**variables, slot: variables.pop(names[0]), f"encoder/extra{suffix}": np.zeros(2, np.float32)}
    del changed[names[0]]
    changed[names[1]] = np.zeros((2, 3), np.float32)
    changed[names[2]] = np.full_like(variables[names[2]], np.nan)
    prefix = bundle(tmp_path / "ckpt-1", changed)
    with pytest.raises(InputError) as caught:
        port_file("tf", prefix, Path("m.safetensors"), NAME, **PORT_FILE)
    text = "\n".join(caught.value.faults)
    for expected in (f"{names[0]}: missing", f"{names[1]}: shape [2, 3], but", f"{names[2]}: contains NaN"):
        assert expected in text
    assert f"{slot}: state of an optimiser, but its weight is missing" in text
    assert f"encoder/extra{suffix}: unexpected tensor of shape [2]" in text
    assert not list(project.glob("m.*"))


def test_a_ported_file_alone_segments_pictures(project, tensorflow):
    from PIL import Image

    path = port_file("tf", tensorflow, Path("m.safetensors"), NAME, thresholds_of="shapes-smoke", **PORT_FILE)
    Image.fromarray(bundled_image()).save("photo.png")
    predict_images([Path("photo.png")], path, Path("out"))
    assert {found.name for found in Path("out").iterdir()} == {
        "photo.png",
        "photo_overlay.png",
        "panoptic.json",
    }


@pytest.mark.parametrize("flavour", ["tf", "torch"])
def test_pictures_are_prepared_as_the_original_of_the_weights_does(project, tmp_path, flavour):
    from PIL import Image

    path = port_file(flavour, checkpoint_of(flavour, tmp_path), Path("m.safetensors"), NAME, **PORT_FILE)
    photo = np.random.default_rng(0).integers(0, 256, (150, 101, 3), np.uint8)  # is shrunk
    Image.fromarray(photo).save("photo.png")
    seen = []

    def watch(model, images, *others):
        seen.append(images)
        return segment_images(model, images, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kmax.inference.predict_images.segment_images", watch)
        predict_images([Path("photo.png")], path, Path("out"))
    expected = {way: network_input(photo, (65, 65), way)[0] for way in ("tf", "torch", None)}
    assert torch.equal(seen[0][0], expected.pop(flavour))
    assert not any(torch.equal(seen[0][0], other) for other in expected.values())


def test_a_run_gives_its_preprocessing_to_the_model(project, tensorflow):
    entry_of(project, path=str(tensorflow), format="tf")
    fetch_weights("published")
    run = ported_run(project, "tf", "tf")
    data = run.data.model_copy(update={"preprocessing": "tf", "native_size": True})
    _, metadata = load_model(port_run(run.model_copy(update={"data": data})))
    assert metadata.extra["data"] == {"preprocessing": "tf", "native_size": True}
    again = port_file(
        "safetensors",
        Path("results/shapes-ported/model.safetensors"),
        Path("n.safetensors"),
        NAME,
        **PORT_FILE,
    )
    assert load_model(again)[1].extra["data"] == metadata.extra["data"]


def test_verify_says_what_the_model_gives_and_that_nothing_is_recorded(project, tensorflow):
    path = port_file("tf", tensorflow, Path("m.safetensors"), NAME, **PORT_FILE)
    *lines, last = verify_file(path)
    assert any(line.startswith("mask_logits 1x4x") for line in lines)
    assert "there are no recorded outputs of the original" in last


@pytest.mark.parametrize("form", ["timm", "original", "tensorflow"])
def test_imagenet_weights_leave_with_the_names_of_the_encoder(project, tmp_path, form):
    model = create_model(NAME, flavour="tf" if form == "tensorflow" else "torch", **ARGUMENTS)
    encoder = {k: v for k, v in model.state_dict().items() if k.startswith("pixel_encoder.")}
    if form == "tensorflow":
        variables = {k: v for k, v in weights("tf").items() if k.startswith("encoder/")}
        prefix = bundle(
            tmp_path / "ckpt-1", variables | {"head/bias/.ATTRIBUTES/VARIABLE_VALUE": np.zeros(1, np.float32)}
        )
        entry_of(project, path=str(prefix), format="tf", encoder=NAME)
    else:
        if form == "timm":
            state = {name.removeprefix("pixel_encoder.network."): value for name, value in encoder.items()}
        else:
            every = {name: torch.from_numpy(array) for name, array in weights("torch").items()}
            state = {k.removeprefix("backbone."): v for k, v in every.items() if k.startswith("backbone.")}
        torch.save(state | {"fc.weight": torch.zeros(3, 2)}, tmp_path / "w.pth")
        entry_of(project, path=str(tmp_path / "w.pth"), format="torch", encoder=NAME)
    path = fetch_weights("published")
    started = create_model(NAME, weights=path, flavour=model.arguments.flavour, **ARGUMENTS)
    if form == "timm":
        loaded = started.state_dict()
        assert all(torch.equal(loaded[name], value) for name, value in encoder.items())


def recorded_tf(output: Output, image: np.ndarray, path: Path) -> None:
    """As the TensorFlow original's outputs are recorded; in `shapes` the first classes are the things."""
    arrays = {
        "pred/pixel_space_mask_logits": output.mask_logits.permute(0, 2, 3, 1),
        "pred/transformer_class_logits": output.class_logits,
    }
    facts = {name: {"shape": list(array.shape), "stride": 3} for name, array in arrays.items()}
    thinned = {name.replace("/", "__"): array.numpy().ravel()[::3] for name, array in arrays.items()}
    np.savez(path, image_uint8=image, **thinned)
    path.with_suffix(".json").write_text(json.dumps({"arrays": facts}))


def recorded_torch(output: Output, image: np.ndarray, path: Path) -> None:
    """As the PyTorch original's outputs are recorded."""
    arrays = {
        "image0": image.transpose(2, 0, 1),
        "out/pred_logits": output.class_logits.numpy(),
        "out/pred_masks_img0": output.mask_logits[0, ::2].numpy(),
    }
    np.savez(path, **arrays)
    path.with_suffix(".json").write_text(json.dumps({"image_size": list(image.shape[:2])}))


def checkpoint_of(flavour: str, folder: Path) -> Path:
    found = weights(flavour)
    if flavour == "tf":
        return bundle(folder / "ckpt-1", found)
    torch.save({name: torch.from_numpy(array) for name, array in found.items()}, folder / "w.pth")
    return folder / "w.pth"


@pytest.mark.parametrize("flavour", ["tf", "torch"])
def test_a_model_that_gives_other_outputs_than_recorded_is_not_kept(project, tmp_path, capsys, flavour):
    checkpoint = checkpoint_of(flavour, tmp_path)
    ported, _ = load_model(port_file(flavour, checkpoint, Path("m.safetensors"), NAME, **PORT_FILE))
    image = bundled_image()[:65, :65]
    with torch.no_grad():
        output = ported(torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1)
    record = {"tf": recorded_tf, "torch": recorded_torch}[flavour]
    path = Path("recorded.npz")
    arguments = {"recorded": path, "log": print, **PORT_FILE}

    record(output, image, path)
    out = stages.port_file(flavour, checkpoint, Path("agrees.safetensors"), NAME, **arguments)
    assert out.is_file()
    assert "agrees.safetensors: agrees with recorded.npz" in capsys.readouterr().out

    output.class_logits[0, 0, 0] += 0.1
    record(output, image, path)
    with pytest.raises(InputError) as caught:
        stages.port_file(flavour, checkpoint, Path("differs.safetensors"), NAME, **arguments)
    first, *others = caught.value.faults
    assert "differs.safetensors: not kept" in first
    assert len(others) == 1
    assert "_logits: off by" in others[0]
    assert not list(Path().glob("*differs*"))

    other = {"tf": "torch", "torch": "tf"}[flavour]
    with pytest.raises(InputError, match=f"recorded from the original called '{flavour}', but .* '{other}'"):
        stages.port_file(
            other, checkpoint_of(other, tmp_path), Path("differs.safetensors"), NAME, **arguments
        )


def test_a_run_is_verified_too(project, tensorflow):
    entry_of(project, path=str(tensorflow), format="tf")
    fetch_weights("published")
    run = ported_run(project, "tf", "tf")
    lines: list[str] = []
    path = port_run(run, check=lambda made: lines.extend(verify_file(made, called=Path("results"))))
    assert path.is_file()
    assert lines[-1].startswith("results: finite")

    def refuse(made: Path) -> None:
        raise InputError("refused")

    path.unlink()
    with pytest.raises(InputError, match="refused"):
        port_run(run, check=refuse)
    assert not path.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "recorded outputs not found"),
        (b"text", "not an NPZ file"),
        ({"image_uint8": np.zeros((65, 65, 3), np.uint8)}, "'arrays' is missing"),
        ({"image0": np.zeros((3, 65, 65), np.float32)}, "an image of float32"),
        ({"pred__x": np.zeros(3)}, "'image0' is missing"),
    ],
)
def test_invalid_recordings_are_refused(tmp_path, content, words):
    path = tmp_path / "recorded.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.savez(path, **content)
        path.with_suffix(".json").write_text('{"image_size": [65, 65]}')
    with pytest.raises(InputError, match=words):
        read_recording(path)
