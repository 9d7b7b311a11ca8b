"""The processes of one training: one here, several on this node, or several on each node of a SLURM job.

The same command starts all of them. One device or a CPU: this process itself. Several GPUs on one node, or
`KMAX_RANKS=N` on CPUs: this process starts and watches them. Many nodes: `srun` starts this command once on
each of them, and these launchers meet at the first one (`kmax.training.nodes`).

If a rank fails, the others on its node end within 10 seconds, and those on other nodes within 60.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from kmax.errors import InputError, OutOfTimeError
from kmax.machine import Plan
from kmax.processes.child_processes import release_held_signals
from kmax.processes.process_group import ProcessGroup
from kmax.training.budget import stop_signals
from kmax.training.nodes import Meeting, Nodes

RENDEZVOUS_SECONDS = 600
COLLECTIVE_SECONDS = 1800
GRADIENT_CHUNK = 16 * 2**20  # values of one all-reduce: 64 MiB in fp32


@dataclass(frozen=True)
class Ranks:
    """This process among its peers, and what they do together.

    Attributes:
        rank: index over all nodes; only rank 0 writes.
        world_size: number of processes on all nodes.
        device: device of this process.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes."""
        return self.rank == 0

    def on_main(self, function: Callable[[], Any]) -> Any:
        """Call `function` on rank 0; its result, or the `InputError` it raises, reaches all ranks."""
        if self.world_size == 1:
            return function()
        outcome: list[Any] = [None, None]
        if self.is_main:
            try:
                outcome = [function(), None]
            except InputError as error:
                outcome = [None, error.faults]
        dist.broadcast_object_list(outcome, src=0)
        if outcome[1] is not None:
            raise InputError(outcome[1])
        return outcome[0]

    def sum(self, values: Tensor) -> list[float]:
        """Sums over ranks of a vector of scalars, the same on every rank."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return [float(value) for value in values.tolist()]

    @torch.no_grad()
    def broadcast_(self, tensors: list[Tensor]) -> None:
        """Copy the tensors of rank 0 to every rank."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    @torch.no_grad()
    def average_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """Replace gradients by their mean over ranks, in large chunks.

        torch's DistributedDataParallel is not used: it regroups its buckets after the first step of a
        process, so with three or more ranks a resumed training would round the sums differently.
        """
        if self.world_size == 1:
            return
        for chunk in _chunks([parameter.grad for parameter in parameters if parameter.grad is not None]):
            flat = torch.cat([gradient.reshape(-1) for gradient in chunk]).div_(self.world_size)
            dist.all_reduce(flat)
            pieces = torch.split(flat, [gradient.numel() for gradient in chunk])
            torch._foreach_copy_(
                chunk, [piece.view_as(gradient) for piece, gradient in zip(pieces, chunk, strict=True)]
            )


def _chunks(tensors: list[Tensor]) -> list[list[Tensor]]:
    chunks: list[list[Tensor]] = []
    free = 0
    for tensor in tensors:
        if tensor.numel() > free or not chunks:
            chunks.append([])
            free = GRADIENT_CHUNK
        chunks[-1].append(tensor)
        free -= tensor.numel()
    return chunks


def run_ranks(plan: Plan, function: Callable[..., None], *arguments: Any) -> None:
    """Call `function(ranks, stop, *arguments)` in every process of `plan` and wait for all of them.

    Raises:
        InputError, OutOfTimeError, KeyboardInterrupt: raised by one rank or by all.
        InputError: the nodes cannot reach each other; a rank was killed, or another node failed.
        RuntimeError: a rank crashed; its traceback is in the message.
    """
    torch.set_num_threads(plan.threads)
    if plan.world_size == 1:
        with stop_signals() as stop:
            function(Ranks(0, 1, _device(0)), stop, *arguments)
        return
    with tempfile.TemporaryDirectory(prefix="kmax-ranks-") as folder:
        group = ProcessGroup("rank", plan.node * plan.ranks_per_node)
        with stop_signals(forward=group.signal):
            if plan.nodes == 1:
                outcomes = _run_node(
                    group, plan, Meeting(file=str(Path(folder) / "store")), function, arguments
                )
            else:
                with Nodes.meet(plan, RENDEZVOUS_SECONDS) as nodes:
                    outcomes = _run_node(group, plan, nodes.meeting, function, arguments, nodes.check)
    _raise_outcome(set(outcomes))


def _run_node(
    group: ProcessGroup,
    plan: Plan,
    meeting: Meeting,
    function: Callable[..., None],
    arguments: tuple[Any, ...],
    check: Callable[[], None] = lambda: None,
) -> list[str]:
    """Run the ranks of this node; their outcomes."""
    first, world = plan.node * plan.ranks_per_node, plan.world_size
    places = [(first + local, local) for local in range(plan.ranks_per_node)]
    return group.run(
        _rank_process,
        [(plan.threads, meeting, rank, local, world, function, arguments) for rank, local in places],
        [{"RANK": str(rank), "LOCAL_RANK": str(local), "WORLD_SIZE": str(world)} for rank, local in places],
        check,
    )


def _raise_outcome(outcomes: set[str]) -> None:
    if "interrupted" in outcomes:
        raise KeyboardInterrupt
    for outcome in outcomes - {"done"}:
        raise OutOfTimeError(outcome)


def _device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _rank_process(
    threads: int,
    meeting: Meeting,
    rank: int,
    local_rank: int,
    world_size: int,
    function: Callable[..., None],
    arguments: tuple[Any, ...],
) -> str:
    """Body of one rank.

    Returns:
        'done', 'interrupted', or why the time is up.
    """
    with stop_signals(patient=True) as stop:
        release_held_signals()
        torch.set_num_threads(threads)
        device = _device(local_rank)
        backend = "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl"
        dist.init_process_group(
            backend,
            store=meeting.store(),
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=COLLECTIVE_SECONDS),
        )
        try:
            function(Ranks(rank, world_size, device), stop, *arguments)
            dist.destroy_process_group()
            return "done"
        except OutOfTimeError as error:
            return str(error)
        except KeyboardInterrupt:
            return "interrupted"
