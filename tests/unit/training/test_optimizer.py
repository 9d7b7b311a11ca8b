import json
from pathlib import Path

import pytest
import torch
from torch import nn

import kmax
from kmax.runs.families import load_run
from kmax.training.optimizer import (
    KerasAdamW,
    make_optimizer,
    optimizer_flavour,
    parameter_groups,
    set_learning_rates,
)


@pytest.mark.parametrize("case", [0, 1])
def test_updates_are_those_that_keras_made(golden: Path, case: int) -> None:
    recorded = json.loads((golden / "tf_data/schedule.json").read_text())["optimizer_update"][case]
    kernel = nn.Parameter(torch.tensor(recorded["kernel0"]))
    bias = nn.Parameter(torch.tensor(recorded["bias0"]))
    betas = (recorded["beta_1"], recorded["beta_2"])
    groups = [{"params": [kernel], "weight_decay": 0.05}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = KerasAdamW(groups, lr=0.01, betas=betas, eps=recorded["epsilon"])
    rates = recorded.get("learning_rates", [0.01] * recorded["iterations_end"])
    for index, (kernel_gradient, bias_gradient) in enumerate(recorded["gradients_kernel_bias"]):
        kernel.grad, bias.grad = torch.tensor(kernel_gradient), torch.tensor(bias_gradient)
        for group in optimizer.param_groups:
            group["lr"] = rates[index]
        optimizer.step()
        # float32 agreement: the order of two multiplications differs
        assert kernel.tolist() == pytest.approx(recorded["kernel_after"][index], rel=3e-7, abs=3e-7)
        assert bias.tolist() == pytest.approx(recorded["bias_after"][index], rel=3e-7, abs=3e-7)


def test_the_torch_form_of_epsilon_would_be_seen(golden: Path) -> None:
    recorded = json.loads((golden / "tf_data/schedule.json").read_text())["optimizer_update"][0]
    kernel = nn.Parameter(torch.tensor(recorded["kernel0"]))
    optimizer = torch.optim.AdamW([kernel], lr=0.01, eps=recorded["epsilon"], weight_decay=0.05)
    for kernel_gradient, _ in recorded["gradients_kernel_bias"]:
        kernel.grad = torch.tensor(kernel_gradient)
        optimizer.step()
    assert (kernel - torch.tensor(recorded["kernel_after"][-1])).abs().max() > 1e-4


def test_only_kernels_of_convolutions_and_linear_layers_decay_and_only_the_encoder_is_slowed() -> None:
    run = load_run("shapes-tiny")
    assert run.train is not None
    train = run.train.model_copy(update={"weight_decay": 0.05, "backbone_lr_multiplier": 0.1})
    model = kmax.create_model("kmax_tiny", num_classes=8, image_size=(65, 65), num_clusters=8)
    groups = parameter_groups(model, train)
    kernels = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear)
    }
    encoder = {id(parameter) for parameter in model.pixel_encoder.parameters()}
    seen: list[int] = []
    for group in groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.05 if id(parameter) in kernels else 0.0)
            assert group["multiplier"] == (0.1 if id(parameter) in encoder else 1.0)
            seen.append(id(parameter))
    assert sorted(seen) == sorted(id(parameter) for parameter in model.parameters())

    optimizer = make_optimizer(model, train, "torch")
    train = train.model_copy(update={"learning_rate": 0.5, "warmup_steps": 0})
    set_learning_rates(optimizer, 0, train, "torch")
    assert {group["lr"] for group in optimizer.param_groups} == {0.5, 0.05}


def test_a_recipe_may_take_the_optimiser_of_either_original() -> None:
    train = load_run("shapes-tiny").train
    assert train is not None
    assert optimizer_flavour(train, "tf") == "tf"
    assert optimizer_flavour(train.model_copy(update={"optimizer": "torch"}), "tf") == "torch"


def test_a_restored_optimizer_goes_on_bit_for_bit() -> None:
    def steps(weight: nn.Parameter, optimizer: KerasAdamW, first: int, last: int) -> None:
        for step in range(first, last):
            weight.grad = torch.sin(weight.detach() * (step + 1))
            optimizer.step()

    straight = nn.Parameter(torch.linspace(-1, 1, 7))
    optimizer = KerasAdamW([straight], lr=0.1, weight_decay=0.05)
    steps(straight, optimizer, 0, 5)

    first = nn.Parameter(torch.linspace(-1, 1, 7))
    optimizer = KerasAdamW([first], lr=0.1, weight_decay=0.05)
    steps(first, optimizer, 0, 2)
    second = nn.Parameter(first.detach().clone())
    resumed = KerasAdamW([second], lr=0.1, weight_decay=0.05)
    resumed.load_state_dict(optimizer.state_dict())
    steps(second, resumed, 2, 5)
    assert torch.equal(straight, second)
