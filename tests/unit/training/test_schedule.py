import json
from pathlib import Path

import numpy as np
import pytest

from kmax.runs.families import load_run
from kmax.training.optimizer import learning_rate


def recipe(**changes):
    train = load_run("shapes-smoke").train
    assert train is not None
    return train.model_copy(update=changes)


def test_tf_rates_are_those_of_every_recorded_config(golden: Path) -> None:
    recorded = json.loads((golden / "tf_data/schedule.json").read_text())
    assert len(recorded["schedules"]) == 12
    for name, schedule in recorded["schedules"].items():
        solver = recorded["solver"][name]
        train = recipe(
            learning_rate=solver["base_learning_rate"],
            steps=solver["training_number_of_steps"],
            warmup_steps=solver["warmup_steps"],
            poly_power=solver["poly_learning_power"],
        )
        for step, rate, backbone_rate in schedule["rows"]:
            assert learning_rate(step, train, "tf") == rate, (name, step)
            multiplier = solver["backbone_learning_rate_multiplier"]
            assert learning_rate(step, train, "tf", multiplier) == backbone_rate, (name, step)


def test_torch_rates_are_those_of_every_recorded_config(golden: Path) -> None:
    recorded = json.loads((golden / "torch_reference/lr_schedule.json").read_text())
    assert len(recorded) == 9
    for name, schedule in recorded.items():
        assert (schedule["warmup_method"], schedule["warmup_factor"]) == ("linear", 0.001)
        train = recipe(
            learning_rate=schedule["base_lr"],
            steps=schedule["max_iter"],
            warmup_steps=schedule["warmup_iters"],
            poly_power=schedule["power"],
        )
        for step, rate in schedule["lr_at_step"].items():
            assert learning_rate(int(step), train, "torch") == rate, (name, step)


def test_torch_warm_up_starts_at_a_thousandth_and_ends_with_the_same_jump() -> None:
    train = recipe(learning_rate=5e-4, steps=150_000, warmup_steps=5000, poly_power=0.9)
    assert learning_rate(0, train, "torch") == pytest.approx(5e-7, rel=1e-6)
    assert learning_rate(2500, train, "torch") == pytest.approx(5e-4 * (0.5 + 0.0005), rel=1e-6)
    assert learning_rate(4999, train, "torch") > learning_rate(5000, train, "torch")
    assert learning_rate(5000, train, "torch") == pytest.approx(learning_rate(5000, train, "tf"), rel=1e-6)


def test_without_warm_up_the_first_step_has_the_base_rate() -> None:
    train = recipe(learning_rate=0.25, warmup_steps=0)
    assert learning_rate(0, train, "tf") == np.float32(0.25)
    assert learning_rate(train.steps, train, "tf") == 0.0
