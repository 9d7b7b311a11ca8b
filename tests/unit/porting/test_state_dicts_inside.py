"""Weights are found inside the files that training programs write, and what is left out is listed."""

import datetime
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from kmax.errors import InputError
from kmax.porting.account import account_for
from kmax.porting.formats import Checkpoint, open_checkpoint
from kmax.porting.naming import THIS_PROJECT, recognise, skip_reasons, wanted_entries

STATE = {
    "conv.weight": torch.arange(6.0).reshape(2, 3),
    "norm.bias": torch.tensor([0.5]),
    "scale": torch.ones(2),
}
AVERAGE = {name: tensor + 1 for name, tensor in STATE.items()}
OPTIMIZER = {
    "state": {0: {"exp_avg": torch.ones(3), "step": torch.tensor(1.0)}},
    "param_groups": [{"lr": 0.1}],
}


def opened(folder: Path, content: Any, **options: str) -> Checkpoint:
    torch.save(content, folder / "w.pth")
    return open_checkpoint(folder / "w.pth", "torch", **options)


def assert_same(checkpoint: Checkpoint, state: dict[str, torch.Tensor]) -> None:
    assert checkpoint.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(torch.tensor(checkpoint[name]), tensor)


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in STATE.items()}


def message(folder: Path, content: Any, **options: str) -> str:
    with pytest.raises(InputError) as caught:
        opened(folder, content, **options)
    (line,) = caught.value.faults
    return line


PREFIXES = [
    "module.", "_orig_mod.", "model.", "network.", "net.", "module._orig_mod.", "_orig_mod.module.",
    "module.module.", "model.module._orig_mod.model.", "_fsdp_wrapped_module._orig_mod.",
]  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("form", ["torch", "safetensors"])
def test_prefixes_of_wrappers_are_removed_in_any_order(tmp_path: Path, prefix: str, form: str) -> None:
    if form == "torch":
        assert_same(opened(tmp_path, prefixed(prefix)), STATE)
    else:
        save_file(prefixed(prefix), tmp_path / "w.safetensors")
        assert_same(open_checkpoint(tmp_path / "w.safetensors", form), STATE)


def test_compiled_and_checkpointed_submodules_keep_their_own_names(tmp_path: Path) -> None:
    content = {"a._orig_mod.b": torch.ones(1), "a._checkpoint_wrapped_module.c": torch.zeros(1)}
    assert_same(opened(tmp_path, content), {"a.b": torch.ones(1), "a.c": torch.zeros(1)})


def test_names_are_kept_where_two_would_become_equal(tmp_path: Path) -> None:
    content = {"module.a": torch.ones(1), "a": torch.zeros(1)}
    assert_same(opened(tmp_path, content), content)


def test_an_averaged_model_is_read_and_its_counter_is_accounted_for(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2))
    checkpoint = opened(tmp_path, AveragedModel(network).state_dict())
    assert set(checkpoint) == {"n_averaged", "0.weight", "0.bias"}
    assert "moving average" in str(skip_reasons(THIS_PROJECT, checkpoint)("n_averaged"))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": state, "optimizer": OPTIMIZER, "epoch": 3, "best": torch.tensor(0.5)},
        lambda state: {"state_dict": state, "rng": torch.zeros(9, dtype=torch.uint8)},
        lambda state: {"model_ema": state},
        lambda state: {"ema": {"module": state, "decay": 0.9, "updates": 7}},
        lambda state: {"weights": state},
        lambda state: {"network": {"state_dict": state}},
        lambda state: {"my_net": state, "scheduler": {"milestones": Counter([1, 2])}},
        lambda state: {"model": state, "when": datetime.datetime(2024, 1, 1), "io": io.BytesIO(b"x")},
    ],
)
def test_a_single_state_dict_is_found_under_any_key(tmp_path: Path, wrap: Any) -> None:
    checkpoint = opened(tmp_path, wrap(STATE))
    assert_same(checkpoint, STATE)
    assert not checkpoint.notes


def test_weights_are_read_before_their_average_unless_it_is_chosen(
    tmp_path: Path,
) -> None:
    content = {"model_ema": AVERAGE, "model": STATE, "optimizer": OPTIMIZER}
    checkpoint = opened(tmp_path, content)
    assert_same(checkpoint, STATE)
    (note,) = checkpoint.notes
    assert "the state dict 'model' is read; the file also has 'model_ema' (3 tensors)" in note
    assert_same(opened(tmp_path, content, state_dict="model_ema"), AVERAGE)
    assert "unknown state dict 'model_em'; did you mean 'model_ema'?" in message(
        tmp_path, content, state_dict="model_em"
    )
    assert_same(opened(tmp_path, {**STATE, "ema": AVERAGE}), STATE)
    assert_same(opened(tmp_path, {**STATE, "ema": AVERAGE}, state_dict="ema"), AVERAGE)


def test_without_a_rule_the_user_chooses(tmp_path: Path) -> None:
    content = {"generator": STATE, "discriminator": AVERAGE}
    line = message(tmp_path, content)
    assert "several state dicts inside: generator, discriminator; choose one with --state-dict" in line
    assert_same(opened(tmp_path, content, state_dict="discriminator"), AVERAGE)
    save_file(STATE, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="only files of the format torch have several"):
        open_checkpoint(tmp_path / "w.safetensors", "safetensors", "model")


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("iteration", 1000, "not a weight: int"),
        ("_extra_state", None, "not a weight: NoneType"),
        ("args", {"lr": 0.1, "names": ["a"]}, "not a weight: a mapping of 2 entries"),
        ("optimizer", OPTIMIZER, "not a weight: the state of an optimiser"),
        (7, torch.ones(2), "not a weight: a tensor"),
    ],
)
def test_entries_beside_the_tensors_are_left_out_with_a_reason(
    tmp_path: Path, key: Any, value: Any, reason: str
) -> None:
    checkpoint = opened(tmp_path, {**STATE, key: value})
    assert_same(checkpoint, STATE)
    assert checkpoint.ignored == {str(key): reason}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (OPTIMIZER, "the state of an optimiser, without weights"),
        (
            {"optimizer": OPTIMIZER, "epoch": 3},
            "the keys 'optimizer' (the state of an optimiser), 'epoch' (int)",
        ),
        ({}, "an empty mapping"),
        ([1, 2], "found list"),
        (torch.ones(2), "found a tensor"),
        ({"lr": 0.1, "note": "x\ny"}, "the keys 'lr' (float), 'note' (str)"),
        ({f"k{number}": 1 for number in range(50)}, "and 42 more"),
    ],
)
def test_a_file_without_weights_says_what_it_holds(tmp_path: Path, content: Any, words: str) -> None:
    line = message(tmp_path, content)
    assert "no state dict inside" in line
    assert words in line


def test_a_pickled_module_is_refused_with_advice(tmp_path: Path) -> None:
    line = message(tmp_path, torch.nn.Linear(2, 2))
    assert "'torch.nn.modules.linear.Linear', which is not a data type; it was not called" in line
    assert "save the model's state_dict() alone" in line


ODD = {
    "complex64": lambda one: one.to(torch.complex64),
    "float8_e4m3fn": lambda one: one.to(torch.float8_e4m3fn),
    "meta": lambda one: one.to("meta"),
    "sparse": lambda one: one.to_sparse(),
    "quantised": lambda one: torch.quantize_per_tensor(one, 0.1, 0, torch.qint8),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tensors_that_no_model_needs_are_named_with_their_kind(tmp_path: Path, kind: str, model) -> None:
    state = dict(model.state_dict())
    name = "semantic_head.classifier.2.weight"
    checkpoint = opened(tmp_path, state | {name: ODD[kind](state[name])})
    assert checkpoint.describe(name)[1] == kind
    entries = wanted_entries(recognise(checkpoint, "w"), model, None)
    account = account_for(checkpoint, entries, skip_reasons(THIS_PROJECT, checkpoint), {})
    assert account.faults == [f"{name}: type {kind}, but the model needs floating-point numbers"]


def test_tensors_that_share_memory_and_subclasses_are_read(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    content = {"a": shared, "b": shared, "tail": shared[4:], "buffer": torch.nn.Buffer(shared + 1)}
    expected = {"a": shared, "b": shared, "tail": shared[4:], "buffer": shared + 1}
    assert_same(opened(tmp_path, content), expected)


def test_a_mapping_that_contains_itself_ends(tmp_path: Path) -> None:
    content: dict[str, Any] = {f"k{number}": number for number in range(300)}
    content |= {f"self{number}": content for number in range(300)}
    assert "no state dict inside" in message(tmp_path, content)


@pytest.mark.parametrize("form", ["torch", "safetensors"])
def test_a_checkpoint_in_several_files_is_read_by_its_index(tmp_path: Path, form: str) -> None:
    names = list(STATE)
    parts = {"w-00001-of-00002.bin": names[:1], "w-00002-of-00002.bin": names[1:]}
    for file, inside in parts.items():
        save = torch.save if form == "torch" else save_file
        save({name: STATE[name] for name in inside}, tmp_path / file)
    places = {name: file for file, inside in parts.items() for name in inside}
    index = tmp_path / "w.index.json"

    def read(weight_map: object) -> Checkpoint:
        index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
        return open_checkpoint(index, form)

    checkpoint = read(places)
    assert_same(checkpoint, STATE)
    assert checkpoint.files() == [index, *(tmp_path / file for file in parts)]
    faults = {
        "is not the name of a file beside the index": dict.fromkeys(names, "../w.bin"),
        "gone.bin: file of w.index.json not found": dict.fromkeys(names, "gone.bin"),
        "1 tensors, such as 'conv.weight', are missing, but in w.index.json": dict.fromkeys(
            names, "w-00002-of-00002.bin"
        ),
        "1 tensors, such as 'scale', are not in w.index.json": {name: places[name] for name in names[:2]},
        "expected a mapping from tensors to file names": [1],
    }
    for words, weight_map in faults.items():
        with pytest.raises(InputError, match=words):
            read(weight_map)
    (tmp_path / "w-00002-of-00002.bin").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match=r"w-00002-of-00002\.bin: .*a git-lfs pointer"):
        read(places)


def test_names_with_another_separator_or_unknown_prefixes_are_named() -> None:
    for separator in "/", ":", "|":
        with pytest.raises(InputError, match=rf"are separated by '\{separator}'; rename the tensors"):
            recognise([f"backbone{separator}stem{separator}conv1{separator}weight"], "w")
    with pytest.raises(InputError, match=r"the prefix 'student\.' of a wrapper"):
        recognise(["student.pixel_encoder.a"], "w")
    with pytest.raises(InputError, match=r"the prefixes 'model\.', 'teacher\.'; keep"):
        recognise(["model.pixel_encoder.a", "teacher.pixel_encoder.a"], "w")
