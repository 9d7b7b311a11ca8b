"""Which processes a training consists of: what the GPUs, SLURM and the environment ask for."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch

from kmax.errors import InputError


@dataclass(frozen=True)
class Plan:
    """Which processes to start.

    Attributes:
        nodes: nodes, each running this command once.
        node: index of this node.
        ranks_per_node: processes on each node.
        address: host of node 0; port: where the nodes meet there.
        threads: CPU threads of each process.
    """

    nodes: int
    node: int
    ranks_per_node: int
    address: str
    port: int
    threads: int

    @property
    def world_size(self) -> int:
        """Processes altogether."""
        return self.nodes * self.ranks_per_node


def plan_ranks() -> Plan:
    """The plan that the machine and the environment (SLURM, KMAX_RANKS, OMP_NUM_THREADS) ask for.

    Raises:
        InputError: KMAX_RANKS is no positive number or exceeds the GPUs; a job of several nodes runs this
            without srun, or more than once on a node; or node 0 has no address.
    """
    gpus = torch.cuda.device_count()
    ranks = _positive("KMAX_RANKS") or max(gpus, 1)
    if 0 < gpus < ranks:
        raise InputError(f"environment variable KMAX_RANKS: {ranks} ranks do not fit on {gpus} GPUs")
    share = max(1, physical_cores() // ranks)  # engines set OMP_NUM_THREADS for the job, not for each rank
    threads = min(_positive("OMP_NUM_THREADS") or share, share)
    nodes = _positive("SLURM_STEP_NUM_NODES")
    if nodes is None and (reserved := _positive("SLURM_NNODES") or 1) > 1:
        raise InputError(
            f"this job has {reserved} nodes, but the command was not started on each: start it with "
            f"srun --nodes={reserved} --ntasks-per-node=1 (or --nodes=1)"
        )
    nodes = nodes or 1
    if nodes == 1:
        return Plan(1, 0, ranks, "localhost", 0, threads)
    tasks = _positive("SLURM_STEP_NUM_TASKS") or nodes
    if tasks != nodes:
        raise InputError(
            f"{tasks} copies of this command on {nodes} nodes: start one on each (srun --ntasks-per-node=1)"
        )
    address = os.environ.get("MASTER_ADDR") or _first_node_address()
    port = _positive("MASTER_PORT") or 20000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 20000
    return Plan(nodes, int(os.environ.get("SLURM_NODEID", "0")), ranks, address, port, threads)


def _positive(variable: str) -> int | None:
    text = os.environ.get(variable, "").split(",")[0]
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"environment variable {variable}: a positive number is wanted, not '{text}'")
    return int(text)


def physical_cores() -> int:
    """Cores that this process may use, hyper-threads counted once."""
    usable = os.sched_getaffinity(0)
    try:
        pattern = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
        return len({Path(pattern.format(cpu)).read_text() for cpu in usable})
    except OSError:
        return len(usable)


def first_node(node_list: str) -> str:
    """First host of a SLURM node list: `node[003-010,12],login1` gives `node003`."""
    unfolded = re.sub(r"\[(\w+)[^\]]*\]", r"\1", node_list)
    return unfolded.split(",")[0]


def _first_node_address() -> str:
    """Where the first node of the SLURM job is reached: by its name, else as SLURM's controller knows it."""
    name = first_node(os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST", ""))
    try:
        socket.getaddrinfo(name, None)
        return name
    except (OSError, UnicodeError):
        pass
    if name and shutil.which("scontrol"):
        shown = subprocess.run(
            ["scontrol", "--oneliner", "show", "node", name], capture_output=True, text=True, timeout=60
        ).stdout
        if found := re.search(r"\bNodeAddr=(\S+)", shown):
            return found.group(1)
    raise InputError(f"the address of SLURM's first node '{name}' is unknown: set MASTER_ADDR to it")
