"""The processes of one training: one here, several on this node, or several on each node of a SLURM job.

The same command starts all of them. One device or a CPU: this process itself. Several GPUs on one node, or
`KMAX_RANKS=N` on CPUs: torchrun's elastic agent. Many nodes: `srun` starts this command once on each of them,
and the agents meet at the first one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from kmax.errors import InputError, OutOfTimeError
from kmax.machine import Plan, launcher, local_rank
from kmax.training.budget import stop_signals

RENDEZVOUS_SECONDS = 600
COLLECTIVE_SECONDS = 1800
LAUNCHER_LOGGERS = ("torch.distributed.elastic.multiprocessing.api", "torch.multiprocessing.spawn")
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
    """Call `function(ranks, *arguments)` in every process of `plan` and wait for all of them.

    Raises:
        InputError, OutOfTimeError, KeyboardInterrupt: raised by one rank or by all.
        InputError: the nodes cannot reach each other.
        RuntimeError: a rank crashed; its traceback is in the message.
    """
    torch.set_num_threads(plan.threads)
    if plan.world_size == 1:
        with stop_signals() as stop:
            function(Ranks(0, 1, _device(0)), stop, *arguments)
        return

    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    several_nodes = plan.nodes > 1
    config = LaunchConfig(
        min_nodes=plan.nodes,
        max_nodes=plan.nodes,
        nproc_per_node=plan.ranks_per_node,
        run_id=plan.job or "kmax",
        rdzv_backend="static" if several_nodes else "c10d",
        rdzv_endpoint=f"{plan.address}:{plan.port}",
        rdzv_configs={"rank": plan.node, "timeout": RENDEZVOUS_SECONDS},
        local_addr=None if several_nodes else "localhost",
        max_restarts=0,
        signals_to_handle="SIGHUP,SIGQUIT",  # the others are forwarded to the ranks, which finish their step
    )
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="kmax-ranks-"))
        stack.enter_context(stop_signals(forward=_pass_on))
        stack.enter_context(_quiet_launcher())
        try:
            outcomes = elastic_launch(config, _rank_process)(plan.threads, folder, function, arguments)
        except ChildFailedError as error:
            raise _failure(Path(folder), error) from None
        except (dist.DistError, RendezvousError) as error:
            raise InputError(
                f"the {plan.nodes} nodes could not connect at {plan.address}:{plan.port} "
                f"({_first_line(error)}): "
                "check that the command runs on each node and that the port is open, or set MASTER_ADDR and "
                "MASTER_PORT to another address"
            ) from error
    _raise_outcome(set(outcomes.values()))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _pass_on(number: int) -> None:
    for process in multiprocessing.active_children():
        if process.pid is not None:
            os.kill(process.pid, number)


def _failure(folder: Path, error: Exception) -> Exception:
    """The error of this node's ranks: an `InputError` if any rank reported one, else the first crash."""
    reports = [json.loads(path.read_bytes()) for path in folder.glob("*.json")]
    reports.sort(key=lambda report: (not report["faults"], report["time"]))
    for report in reports:
        if report["faults"]:
            return InputError(report["faults"])
        return RuntimeError(f"rank {report['rank']} failed:\n{report['traceback']}")
    return RuntimeError(f"a rank died without a report (out of memory, or on another node): {error}")


@contextlib.contextmanager
def _quiet_launcher() -> Iterator[None]:
    """Silence torch's traceback of a failed rank, since `_failure` reports it."""
    loggers = [logging.getLogger(name) for name in LAUNCHER_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


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
    threads: int, folder: str, function: Callable[..., None], arguments: tuple[Any, ...]
) -> str:
    """Body of one spawned rank. Failures are reported to `folder`.

    Returns:
        'done', 'interrupted', or why the time is up.
    """
    rank, _ = launcher()
    torch.set_num_threads(threads)
    device = _device(local_rank() or 0)
    backend = "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl"
    with stop_signals(patient=True) as stop:
        try:
            dist.init_process_group(backend, timeout=timedelta(seconds=COLLECTIVE_SECONDS))
            function(Ranks(rank, dist.get_world_size(), device), stop, *arguments)
            dist.destroy_process_group()  # inside, so that its errors are reported too
            return "done"
        except OutOfTimeError as error:
            return str(error)
        except KeyboardInterrupt:
            return "interrupted"
        except Exception as error:  # reported before the other ranks find their connection closed
            faults = error.faults if isinstance(error, InputError) else []
            report = {
                "rank": rank,
                "faults": faults,
                "traceback": traceback.format_exc(),
                "time": time.time(),
            }
            (Path(folder) / f"{rank:05d}.json").write_text(json.dumps(report))
            raise
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
