"""The ranks of one node cannot be reached from other machines."""

import json
import os
from pathlib import Path

import psutil
import torch
import torch.distributed as dist

from kmax.machine import Plan
from kmax.training.loopback import VARIABLES, stay_on_this_machine
from kmax.training.ranks import Ranks, run_ranks

LOOPBACK = {"127.0.0.1", "::1"}


def listen(ranks: Ranks, stop: object, folder: str) -> None:
    """Write where the processes of this training listen, while its ranks are connected."""
    total = torch.ones(1)
    dist.all_reduce(total)
    assert total == ranks.world_size
    processes = [psutil.Process(), psutil.Process().parent()]
    found = [
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    (Path(folder) / f"{ranks.rank}.json").write_text(json.dumps(found))
    dist.barrier()


def test_two_ranks_listen_on_the_loopback_interface_alone(tmp_path, monkeypatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    plan = Plan(1, 0, 2, "localhost", 0, 1)
    stay_on_this_machine(plan)
    run_ranks(plan, listen, str(tmp_path))
    found = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    assert len(found) == 2
    assert all(found), "gloo listens on both ranks"
    assert {address for one in found for address in one} <= LOOPBACK


def test_an_interface_that_the_user_names_and_several_nodes_stay_as_they_are(monkeypatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    monkeypatch.delenv("NCCL_SOCKET_IFNAME", raising=False)
    stay_on_this_machine(Plan(2, 0, 2, "node1", 20000, 1))
    assert "NCCL_SOCKET_IFNAME" not in os.environ
    stay_on_this_machine(Plan(1, 0, 2, "localhost", 0, 1))
    assert os.environ["GLOO_SOCKET_IFNAME"] == "eth7"
