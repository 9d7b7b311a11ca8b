import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from kmax.errors import InputError, OutOfTimeError
from kmax.machine import Plan, plan_ranks
from kmax.training import ranks
from kmax.training.budget import Stop
from kmax.training.ranks import Ranks, run_ranks


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch) -> None:
    names = ("SLURM_STEP_NUM_NODES", "SLURM_NNODES", "SLURM_STEP_NUM_TASKS", "SLURM_NODEID", "SLURM_JOB_ID")
    names += ("RANK", "WORLD_SIZE", "SLURM_JOB_NODELIST", "SLURM_STEP_NODELIST")
    names += ("KMAX_RANKS", "MASTER_ADDR", "MASTER_PORT")
    for variable in names:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_a_cpu_gets_one_process_by_default() -> None:
    assert plan_ranks() == Plan(1, 0, 1, "localhost", 0, 1)


def test_gpus_give_a_rank_each(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert plan_ranks().world_size == 4
    monkeypatch.setenv("KMAX_RANKS", "8")
    with pytest.raises(InputError, match="8 ranks exceed the 4 available GPUs"):
        plan_ranks()


def test_slurm_nodes_meet_at_the_first(monkeypatch) -> None:
    monkeypatch.setenv("SLURM_NNODES", "2")
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "2")
    monkeypatch.setenv("SLURM_NODEID", "1")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "localhost,node2")
    assert plan_ranks() == Plan(2, 1, 1, "localhost", 20007, 1, "7")
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "1")  # a step on one node of a larger job
    assert plan_ranks().nodes == 1


def test_several_nodes_without_srun_are_refused(monkeypatch) -> None:
    monkeypatch.setenv("SLURM_NNODES", "2")
    with pytest.raises(InputError, match=r"2 nodes.*start it with srun --nodes=2 --ntasks-per-node=1"):
        plan_ranks()


@pytest.mark.parametrize("node", [0, 1])
def test_a_node_without_peers_gives_an_error(monkeypatch, node: int) -> None:
    monkeypatch.setattr(ranks, "RENDEZVOUS_SECONDS", 1)
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    with pytest.raises(InputError, match=f"2 nodes could not connect at localhost:{port}"):
        run_ranks(Plan(2, node, 1, "localhost", port, 1), everyone_out_of_time)


def test_two_launchers_on_a_node_are_refused(monkeypatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "2")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    with pytest.raises(InputError, match="--ntasks-per-node=1"):
        plan_ranks()


def test_a_node_without_address_gives_an_error(monkeypatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "2")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "no-such-host.invalid")
    with pytest.raises(InputError, match="set MASTER_ADDR"):
        plan_ranks()


def test_the_variables_of_another_launcher_are_refused(monkeypatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert plan_ranks().world_size == 1
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(InputError, match="RANK=0, WORLD_SIZE=4: kmax train starts its own ranks"):
        plan_ranks()


@pytest.mark.parametrize("text", ["0", "-1", "two"])
def test_a_wrong_number_of_ranks_is_refused(monkeypatch, text: str) -> None:
    monkeypatch.setenv("KMAX_RANKS", text)
    with pytest.raises(InputError, match="KMAX_RANKS: expected a positive number"):
        plan_ranks()


THREE = Plan(1, 0, 3, "localhost", 0, 1)


def work_together(ranks: Ranks, stop: Stop, folder: str) -> None:
    assert ranks.sum(torch.tensor([1.0, ranks.rank])) == [3.0, 3.0]
    assert ranks.on_main(lambda: f"from {ranks.rank}") == "from 0"
    weight = torch.nn.Parameter(torch.zeros(5))
    weight.grad = torch.full((5,), float(ranks.rank))
    ranks.average_gradients([weight, torch.nn.Parameter(torch.zeros(2))])
    assert weight.grad.tolist() == [1.0] * 5
    tensor = torch.full((2,), float(ranks.rank))
    ranks.broadcast_([tensor])
    assert tensor.tolist() == [0.0, 0.0]
    (Path(folder) / f"{ranks.rank}.json").write_text(json.dumps([ranks.world_size, torch.get_num_threads()]))


def everyone_out_of_time(ranks: Ranks, stop: Stop) -> None:
    raise OutOfTimeError("saved after step 3")


def main_rank_meets_a_fault(ranks: Ranks, stop: Stop) -> None:
    def fail() -> None:
        raise InputError("a clear line")

    ranks.on_main(fail)


def last_rank_meets_a_fault(ranks: Ranks, stop: Stop) -> None:
    if ranks.rank == 2:
        raise InputError("image 7: truncated")
    dist.barrier()


def last_rank_crashes(ranks: Ranks, stop: Stop) -> None:
    if ranks.rank == 2:
        raise ZeroDivisionError("a bug")
    dist.barrier()


def last_rank_is_killed(ranks: Ranks, stop: Stop) -> None:
    if ranks.rank == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(1000)


def memory_is_out(ranks: Ranks, stop: Stop) -> None:
    if ranks.rank == 1:
        raise MemoryError
    time.sleep(1000)


def test_ranks_work_together(tmp_path: Path) -> None:
    run_ranks(THREE, work_together, str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.json", "1.json", "2.json"]
    assert json.loads((tmp_path / "2.json").read_text()) == [3, 1]


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (everyone_out_of_time, OutOfTimeError, "saved after step 3"),
        (main_rank_meets_a_fault, InputError, "a clear line"),
        (last_rank_meets_a_fault, InputError, "image 7: truncated"),
        (last_rank_crashes, RuntimeError, "rank 2 failed:(.|\n)*ZeroDivisionError: a bug"),
        (last_rank_is_killed, InputError, r"rank 2 .* was ended by SIGKILL"),
        (memory_is_out, InputError, "out of memory: .*KMAX_MICRO_BATCHES"),
    ],
)
def test_the_launcher_raises_what_its_ranks_raised(function, error, message: str) -> None:
    with pytest.raises(error, match=message):
        run_ranks(THREE, function)
