"""Interrupted anywhere and resumed, a training ends with the same bits as uninterrupted."""

import os
import random
import signal
import subprocess
import sys

import pytest

from kmax import paths
from kmax.errors import InputError, OutOfTimeError
from kmax.files import exclusive_lock
from kmax.training import checkpoint
from kmax.training.budget import Budget
from kmax.training.training_log import History

# A child that kills itself after some calls of a function, so that no signal of ours has to hit a moment.
CHILD = """
import importlib, os, signal, sys
from kmax.runs.families import load_run
from kmax.training.loop import train_run

module, attribute, calls = sys.argv[1], sys.argv[2], int(sys.argv[3])
holder = importlib.import_module(module)
*inner, last = attribute.split(".")
for name in inner:
    holder = getattr(holder, name)
original = getattr(holder, last)
count = 0

def deadly(*arguments, **named):
    global count
    count += 1
    if count > calls:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **named)

setattr(holder, last, deadly)
train_run(load_run("little"))
"""


def train_until_killed(function: str, calls: int) -> int:
    """Train in a child that dies by SIGKILL when `function` was called `calls` times; its exit code."""
    module, attribute = function.split(":")
    command = [sys.executable, "-c", CHILD, module, attribute, str(calls)]
    return subprocess.run(command, capture_output=True, check=False).returncode


def interrupt_after(monkeypatch: pytest.MonkeyPatch, step: int, number: int) -> None:
    """Send this process a signal while the training makes `step`."""
    original = History.step

    def stepping(self, done, *arguments):
        if done == step:
            os.kill(os.getpid(), number)
        return original(self, done, *arguments)

    monkeypatch.setattr(History, "step", stepping)


@pytest.mark.parametrize(
    ("function", "calls"),
    [
        ("kmax.training.ranks:Ranks.sum", 3),  # between checkpoints
        ("os:replace", 1),  # a checkpoint is written, but not in place
        ("kmax.training.publish:save_model", 0),  # complete, half published
    ],
)
def test_killed_and_resumed_the_result_is_the_same(project, uninterrupted, function: str, calls: int) -> None:
    assert train_until_killed(function, calls) == -signal.SIGKILL
    assert not paths.model("little").exists()
    project.train()
    assert project.result() == uninterrupted
    assert not list(project.folder.rglob(".*.tmp"))


@pytest.mark.long
def test_killed_repeatedly_the_result_is_the_same(project, uninterrupted) -> None:
    draw = random.Random(0)
    places = ["kmax.training.ranks:Ranks.sum", "os:replace", "os:fsync", "torch:save", "os:unlink"]
    for _ in range(12):
        train_until_killed(draw.choice(places), draw.randrange(4))
    project.train()
    assert project.result() == uninterrupted


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (signal.SIGTERM, OutOfTimeError),
        (signal.SIGUSR1, OutOfTimeError),
        (signal.SIGINT, KeyboardInterrupt),
    ],
)
@pytest.mark.parametrize("step", [2, 4])
def test_a_signal_saves_the_current_step(
    project, uninterrupted, monkeypatch, number: int, error: type[BaseException], step: int
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, step, number)
        with pytest.raises(error):
            project.train()
    # The signal comes while the losses are recorded, after the exchange: the next step sees it.
    assert checkpoint.step_of(project.checkpoints()[0]) == step + 1
    assert not paths.model("little").exists()
    project.train()
    assert project.result() == uninterrupted


def test_out_of_time_after_every_step_the_result_is_the_same(project, uninterrupted, monkeypatch) -> None:
    monkeypatch.setattr(Budget, "over", lambda budget, needed=0.0: needed > 0)
    for step in range(1, 6):
        with pytest.raises(OutOfTimeError, match=rf"time budget of 9 s: saved after step {step} of 6"):
            project.train(time_budget=9)
    project.train(time_budget=9)
    assert project.result() == uninterrupted


def test_an_attempt_without_progress_ends_the_retries(project) -> None:
    with pytest.raises(InputError, match="time budget of 0 s ended before the first step"):
        project.train(time_budget=0)


def test_complete_is_published_again_without_training(project, uninterrupted, monkeypatch, capsys) -> None:
    project.train()
    paths.model("little").unlink()
    paths.history("little").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(History, "step", None)
        project.train()
    assert project.result() == uninterrupted
    assert "only the results are published again" in capsys.readouterr().err


def test_changed_parameters_restart_and_keep_the_old_state(project, capsys) -> None:
    project.train()
    old = project.state
    project.change("train", seed=1)
    project.train()
    assert project.state != old
    assert checkpoint.checkpoints(old)
    assert f"kept in {old}" in capsys.readouterr().err


def test_a_decoder_of_five_stages_trains_on_labels_as_fine_as_its_output(project) -> None:
    project.change("model", decoder_stages=5)
    project.change("train", steps=1, warmup_steps=0)
    project.train()
    assert paths.model("little").exists()


def test_fresh_restarts_the_training(project, uninterrupted, capsys) -> None:
    project.train()
    project.train(fresh=True)
    assert project.result() == uninterrupted
    stderr = capsys.readouterr().err
    assert stderr.count("training 6 steps") == 2


def test_a_corrupt_newest_checkpoint_gives_one_warning_and_the_same_bits(
    project, uninterrupted, monkeypatch, capsys
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, 4, signal.SIGTERM)
        with pytest.raises(OutOfTimeError):
            project.train()
    newest = project.checkpoints()[0]
    newest.write_bytes(newest.read_bytes()[:1000])
    project.train()
    assert project.result() == uninterrupted
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warnings) == 1
    assert newest.name in warnings[0]


def test_a_second_copy_gives_a_one_line_error(project) -> None:
    held = exclusive_lock(project.state / "lock", "")
    with held, pytest.raises(InputError, match="is already running") as error:
        project.train()
    assert len(error.value.lines()) == 1
    assert not project.checkpoints()


def test_a_loss_that_is_not_finite_names_term_and_images_and_keeps_the_state(project, monkeypatch) -> None:
    project.change("train", learning_rate=1.0e30, clip_grad_norm=None)
    with pytest.raises(InputError, match=r"step \d: .* is not finite for image .*checkpoints are kept in"):
        project.train()


def test_a_different_environment_is_reported(project, monkeypatch, capsys) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, 4, signal.SIGTERM)
        with pytest.raises(OutOfTimeError):
            project.train()
    monkeypatch.setenv("KMAX_MICRO_BATCHES", "2")
    project.train()
    stderr = capsys.readouterr().err
    assert "differs from before the interruption (ranks 1, micro_batches 1" in stderr
    assert "agree only up to rounding" in stderr
