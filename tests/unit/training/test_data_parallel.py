"""Ranks and micro-batches compute the same as one process with the whole batch."""

import csv
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kmax import paths
from kmax.errors import InputError
from kmax.training import checkpoint

RATE = 1.0e-3
COMMAND = [sys.executable, "-c", "from kmax.cli.main import main; main()", "train", "little"]


@pytest.fixture
def whole_batch(project):
    """The run without random draws: all pixels taken, no drop path, nor the head with dropout."""
    project.change("model", drop_path=0.0)
    project.change("train", steps=3, global_batch_size=8, warmup_steps=0, learning_rate=RATE, log_every=1)
    project.change("train", ema_decay=None, weight_decay=0.0)
    project.change("losses", sample_k=10**6, semantic_weight=0.0)
    return project


def losses() -> list[dict[str, float]]:
    with open(paths.history("little")) as stream:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def trained(project) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    project.train(fresh=True)
    return losses(), load_file(paths.model("little"))


def test_two_ranks_of_four_agree_with_one_of_eight(whole_batch, monkeypatch) -> None:
    one_losses, one = trained(whole_batch)
    monkeypatch.setenv("KMAX_RANKS", "2")
    two_losses, two = trained(whole_batch)

    assert two_losses[0] == pytest.approx(one_losses[0], rel=5e-6)
    for one_row, two_row in zip(one_losses, two_losses, strict=True):
        assert two_row == pytest.approx(one_row, rel=1e-4)
    differences = torch.cat(
        [(one[name] - two[name]).abs().flatten() for name in one if "running" not in name]
    )
    assert differences.mean() < 0.005 * RATE
    for name in one:
        if "running" in name and not name.startswith("semantic_head."):
            torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-4)


def first_moments(project) -> list[torch.Tensor]:
    """After one step, per parameter: its gradient times what the optimiser takes of it."""
    (newest,) = project.checkpoints()
    states = checkpoint.load(newest)["optimizer"]["state"].values()
    return [state["m"] if "m" in state else state["exp_avg"] for state in states]


def test_two_ranks_of_four_have_the_gradients_of_one_of_eight(whole_batch, monkeypatch) -> None:
    """The weights alone would not show gradients that are wrong by a factor: Adam divides it out."""
    whole_batch.change("train", steps=1, clip_grad_norm=None)
    whole_batch.train(fresh=True)
    one = first_moments(whole_batch)
    monkeypatch.setenv("KMAX_RANKS", "2")
    whole_batch.train(fresh=True)
    two = first_moments(whole_batch)

    rounding = 1e-6 * torch.stack([moment.norm() for moment in one]).norm()
    for moment, expected in zip(two, one, strict=True):
        assert (moment - expected).norm() <= 1e-3 * expected.norm() + rounding


@pytest.mark.long
def test_three_ranks_resume_to_the_same_bits(project, monkeypatch) -> None:
    # A sum over two ranks has one order only; over three, its rounding depends on how gradients are grouped.
    monkeypatch.setenv("KMAX_RANKS", "3")
    project.change("train", checkpoint_every=1, steps=4, global_batch_size=3)
    project.train()
    straight = project.result()
    newest, before = project.checkpoints()
    newest.unlink()
    assert checkpoint.step_of(before) == 3
    paths.model("little").unlink()
    project.train()
    assert project.result() == straight


def test_fewer_images_for_batch_norm_are_logged(whole_batch, monkeypatch, capsys) -> None:
    monkeypatch.setenv("KMAX_MICRO_BATCHES", "2")
    whole_batch.train()
    message = "batch norm statistics are of 4 images, fewer than the recipe's batch of 8"
    assert message in capsys.readouterr().err


def test_a_batch_that_cannot_be_divided_is_refused(project, monkeypatch) -> None:
    monkeypatch.setenv("KMAX_RANKS", "3")
    with pytest.raises(InputError, match="global_batch_size 4 cannot be divided over 3 rank"):
        project.train()


def wait_for_a_step(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if ": step " in line:
            return
    raise AssertionError("the training ended before its first step")


@pytest.mark.parametrize(
    ("ranks", "number", "code"),
    [
        ("1", signal.SIGINT, 130),
        ("2", signal.SIGTERM, 75),
        pytest.param("2", signal.SIGINT, 130, marks=pytest.mark.long),
        pytest.param("2", signal.SIGUSR1, 75, marks=pytest.mark.long),
    ],
)
def test_a_signal_to_the_launcher_saves_and_ends_all_ranks(
    project, monkeypatch, ranks: str, number: int, code: int
) -> None:
    monkeypatch.setenv("KMAX_RANKS", ranks)
    project.change("train", steps=10_000, checkpoint_every=10_000)
    with subprocess.Popen(COMMAND, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        wait_for_a_step(process)
        process.send_signal(number)
        assert process.stderr is not None
        stderr = process.stderr.read()
    assert process.returncode == code, stderr
    assert "Traceback" not in stderr
    assert len(project.checkpoints()) == 1


def test_two_nodes_of_a_slurm_job_train_together(whole_batch, monkeypatch, tmp_path: Path) -> None:
    alone_losses, _ = trained(whole_batch)
    environment = {
        "SLURM_STEP_NUM_NODES": "2",
        "SLURM_JOB_NODELIST": "localhost,node2",
        "SLURM_JOB_ID": str(free_port()),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", environment["SLURM_JOB_ID"])
    nodes = []
    for node in ("1", "0"):
        monkeypatch.setenv("SLURM_NODEID", node)
        nodes.append(subprocess.Popen([*COMMAND, "--fresh"], stderr=subprocess.PIPE, text=True))
    stderr = [node.communicate()[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], stderr
    for row, alone in zip(losses(), alone_losses, strict=True):
        assert row == pytest.approx(alone, rel=1e-4)
    assert "2 cpu rank(s)" in stderr[1]
    assert "cpu rank(s)" not in stderr[0]


def test_a_node_that_is_killed_ends_the_other(whole_batch, monkeypatch) -> None:
    whole_batch.change("train", steps=10_000, checkpoint_every=10_000)
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "2")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "localhost,node2")
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    nodes = []
    for node in ("1", "0"):
        monkeypatch.setenv("SLURM_NODEID", node)
        nodes.append(subprocess.Popen(COMMAND, stderr=subprocess.PIPE, text=True))
    wait_for_a_step(nodes[1])
    nodes[0].kill()
    stderr = nodes[1].communicate(timeout=60)[1]
    nodes[0].communicate()
    assert nodes[1].returncode == 2, stderr
    assert "kmax: node 1 does not answer any more" in stderr
    assert "Traceback" not in stderr


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])
