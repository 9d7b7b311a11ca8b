"""Weight files: exact round trips, and clear messages for corrupt or foreign files."""

import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_model import tiny

from kmax.errors import InputError
from kmax.model.io import load_model, load_weights, read_metadata, save_model


@pytest.fixture(scope="module")
def trained():
    """A model whose moving statistics have moved."""
    torch.manual_seed(1)
    model = tiny(drop_path=0.2, cross_attention="cmt", flavour="torch")
    model(torch.randn(2, 3, 65, 65))
    return model.eval()


@pytest.fixture
def saved(tmp_path, trained, categories):
    path = tmp_path / "model.safetensors"
    save_model(trained, path, categories, commit="abc", steps=7)
    return path


def rewrite(path, change):
    """Apply `change` to the JSON header of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def test_a_saved_model_comes_back_bit_for_bit(saved, trained, categories):
    model, metadata = load_model(saved)
    assert metadata.arguments == trained.arguments
    assert metadata.categories == categories
    assert metadata.extra == {"commit": "abc", "steps": 7}
    ours, theirs = model.state_dict(), trained.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    images = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        assert torch.equal(model(images).mask_logits, trained(images).mask_logits)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_same_weights_give_the_same_bytes(saved, trained, categories, tmp_path):
    again = tmp_path / "again.safetensors"
    save_model(trained, again, categories, commit="abc", steps=7)
    assert again.read_bytes() == saved.read_bytes()


def test_create_model_starts_from_a_whole_file_or_from_the_encoder_alone(saved, trained, tmp_path):
    whole = tiny(weights=saved, flavour="torch")
    assert torch.equal(whole.predictor.class_head.weight, trained.predictor.class_head.weight)
    encoder = {name: t for name, t in load_file(saved).items() if name.startswith("pixel_encoder.")}
    save_file(encoder, tmp_path / "encoder.safetensors")
    part = tiny(num_classes=3, weights=tmp_path / "encoder.safetensors")
    wanted = trained.pixel_encoder.state_dict()
    assert all(torch.equal(t, wanted[name]) for name, t in part.pixel_encoder.state_dict().items())


def test_categories_must_fit_the_model(trained, categories, tmp_path):
    with pytest.raises(InputError, match="8 classes, but 7 categories were given"):
        save_model(trained, tmp_path / "m.safetensors", categories[:-1])


def test_an_unwritable_folder_is_reported(trained, categories, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        save_model(trained, tmp_path / "file" / "m.safetensors", categories)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "weights of a model with flavour='torch', but this one has flavour='tf'"),
        ({"flavour": "torch", "num_classes": 5}, "with num_classes=8, but this one has num_classes=5"),
    ],
)
def test_weights_of_another_model_give_a_one_line_error(saved, arguments, said):
    with pytest.raises(InputError) as caught:
        tiny(weights=saved, **arguments)
    assert len(caught.value.faults) == 1
    assert said in caught.value.faults[0]


def test_weights_that_contradict_the_model_are_named(saved, tmp_path):
    save_file(load_file(saved), tmp_path / "bare.safetensors")
    with pytest.raises(InputError, match=r"'predictor\.class_head\.bias' has shape") as caught:
        tiny(num_classes=5, weights=tmp_path / "bare.safetensors")
    assert all("class_head" in fault or "classifier" in fault for fault in caught.value.faults)


@pytest.mark.parametrize("length", [0, 7, 100, 20_000, -1])
def test_a_truncated_file_is_refused(saved, length):
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(InputError, match=r"model\.safetensors: not a readable safetensors file"):
        load_model(saved)


def test_other_kinds_of_files_are_refused(tmp_path):
    for name, data in (("a.pth", b"PK\x03\x04" + bytes(200)), ("b.txt", b"hello" * 50)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=r"not a readable safetensors file: (truncated zip|a text that)"):
            load_model(tmp_path / name)
    (tmp_path / "c.bin").write_bytes(bytes(range(255, 100, -1)))
    with pytest.raises(InputError, match=r"not a safetensors file; convert .* `kmax port-file`"):
        load_model(tmp_path / "c.bin")
    with pytest.raises(InputError, match="not found"):
        load_model(tmp_path / "missing.safetensors")
    with pytest.raises(InputError, match="is a folder, not a safetensors file"):
        load_model(tmp_path)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    save_file({"conv.weight": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(InputError, match="not a kmax model"):
        load_model(tmp_path / "foreign.safetensors")
    with pytest.raises(InputError, match=r"none of its 1 tensors belongs to a kmax model"):
        load_weights(tiny(), tmp_path / "foreign.safetensors")


def in_metadata(change):
    """Apply `change` to the metadata inside a header."""

    def in_header(header):
        metadata = json.loads(header["__metadata__"]["kmax"])
        change(metadata)
        header["__metadata__"]["kmax"] = json.dumps(metadata)

    return in_header


def arguments(**changes):
    return in_metadata(lambda metadata: metadata["arguments"].update(changes))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (arguments(name="kmax_huge"), "unknown model 'kmax_huge'"),
        (arguments(num_clusters="16"), "num_clusters"),
        (arguments(num_clusters=10**15), "cluster_centers"),
        (arguments(image_size=[128, 128]), "odd"),
        (arguments(image_size=[129]), "image_size"),
        (arguments(surprise=1), "surprise"),
        (arguments(num_classes=9), "9 classes, 8 categories"),
        (lambda header: header["__metadata__"].update(kmax="{"), "corrupt"),
        (lambda header: header["__metadata__"].update(kmax="[" * 100_000), "corrupt"),
        (in_metadata(lambda metadata: metadata.update(categories=[1])), "categories"),
        (in_metadata(lambda metadata: metadata.update(extra=[])), "extra"),
        (in_metadata(lambda metadata: metadata.pop("categories")), "categories"),
        (in_metadata(lambda metadata: metadata.update(format=9)), "another version: format"),
        (lambda header: header.update(extra=header.pop("predictor.class_head.bias")), "is missing"),
    ],
)
def test_corrupt_metadata_give_a_one_line_error(saved, change, said):
    rewrite(saved, change)
    with pytest.raises(InputError, match=said) as caught:
        load_model(saved)
    assert all(str(saved) in fault for fault in caught.value.faults)


def test_metadata_are_read_without_the_weights(saved):
    assert read_metadata(saved).arguments.cross_attention == "cmt"


def test_half_precision_tensors_are_refused(saved, trained):
    tensors = load_file(saved)
    tensors["predictor.class_head.bias"] = tensors["predictor.class_head.bias"].half()
    save_file(tensors, saved)
    with pytest.raises(InputError, match="type F16, expected F32"):
        load_weights(tiny(), saved)
