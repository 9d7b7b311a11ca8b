"""Facts about this machine and this process: cores, memory, GPUs, launchers, the installed package.

Everything that depends on where a command runs is read here, from the operating system and from the
environment variables of this project (`KMAX_*`), torchrun and SLURM. None of it may change a result. torch is
imported by the functions that need it.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmax.errors import InputError

if TYPE_CHECKING:
    import torch

DISTRIBUTIONS = ("kmax-deeplab", "kmax")  # the current name, and that of older installations
MAX_LOADER_WORKERS = 8


def available_cpus() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def physical_cores() -> int:
    """Cores that this process may use, with hyper-threads counted once."""
    if not hasattr(os, "sched_getaffinity"):
        return available_cpus()
    usable = os.sched_getaffinity(0)
    try:
        pattern = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
        return len({Path(pattern.format(cpu)).read_text() for cpu in usable})
    except OSError:
        return len(usable)


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that can still be allocated, within the control group's limit if there is one."""
    free = 2**40
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    group = root / "sys/fs/cgroup"
    newer = ("memory.max", "memory.current")
    older = ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")
    for limit, used in (newer, older):
        values = [*_lines(group / limit), *_lines(group / used)]
        if len(values) == 2 and all(value.isdecimal() for value in values):
            free = min(free, max(0, int(values[0]) - int(values[1])))
    return free


def process_memory() -> dict[str, int]:
    """Current (VmRSS) and highest (VmHWM) resident memory of this process in bytes.

    Raises:
        OSError, KeyError: the system does not report them (not Linux).
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {key: int(fields[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM")}


def gpu_count() -> int:
    """GPUs that torch can use."""
    import torch

    return torch.cuda.device_count()


def environment_count(variable: str, *, minimum: int = 0) -> int | None:
    """A whole number from the environment, None if the variable is unset or empty.

    OMP_NUM_THREADS may list counts per nesting level, such as `4,2`; the first one is returned.

    Raises:
        InputError: not a whole number of at least `minimum`.
    """
    text = os.environ.get(variable, "").split(",")[0]
    if not text:
        return None
    if not text.isdecimal() or int(text) < minimum:
        expected = "a positive number" if minimum else "a number"
        raise InputError(f"environment variable {variable}: expected {expected}, got '{text}'")
    return int(text)


def positive_count(variable: str) -> int | None:
    """A whole number of at least 1 from the environment, None if the variable is unset or empty.

    Raises:
        InputError: not such a number.
    """
    return environment_count(variable, minimum=1)


def environment_seconds(variable: str) -> float | None:
    """A number of seconds from the environment, None if the variable is unset or empty.

    Raises:
        InputError: not a number of at least 0.
    """
    text = os.environ.get(variable, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value >= 0:
        raise InputError(f"environment variable {variable}: expected a number of seconds, got '{text}'")
    return value


def slurm_job_end() -> float | None:
    """When the SLURM job ends, in seconds since 1970; None outside SLURM.

    Raises:
        InputError: SLURM_JOB_END_TIME is not a number.
    """
    return environment_seconds("SLURM_JOB_END_TIME")


def loader_workers(gpus: int) -> int:
    """Processes that load data for each process that computes: KMAX_WORKERS, else by cores and GPUs.

    Without a GPU there are none, because the network needs the cores. KMAX_WORKERS also bounds the worker
    processes of the other stages (`kmax.processes.parallel`).
    """
    workers = environment_count("KMAX_WORKERS")
    if workers is not None:
        return workers
    return min(MAX_LOADER_WORKERS, available_cpus() // gpus) if gpus else 0


def launcher() -> tuple[int, int]:
    """(rank, number) of this process among those that a launcher started with the same command.

    torchrun sets `RANK` and `WORLD_SIZE`, srun `SLURM_PROCID` and `SLURM_STEP_NUM_TASKS`. (0, 1) without one.

    Raises:
        InputError: the variables are not numbers, or the rank is not below the number.
    """
    for rank, world in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")):
        if rank in os.environ and world in os.environ:
            values = os.environ[rank], os.environ[world]
            if not all(value.isdecimal() for value in values) or int(values[0]) >= int(values[1]):
                raise InputError(
                    f"environment: {rank}={values[0]}, {world}={values[1]}: expected a rank below the number "
                    "of processes"
                )
            return int(values[0]), int(values[1])
    return 0, 1


def local_rank() -> int | None:
    """Index of this process among those that torchrun started on this node; None without torchrun."""
    return environment_count("LOCAL_RANK")


@dataclass(frozen=True)
class Plan:
    """Which processes to start.

    Attributes:
        nodes: number of nodes, each running this command once.
        node: index of this node.
        ranks_per_node: processes on each node.
        address: host of node 0, where the nodes meet.
        port: port of node 0.
        threads: CPU threads of each process.
        job: SLURM's number of the job; empty outside SLURM.
    """

    nodes: int
    node: int
    ranks_per_node: int
    address: str
    port: int
    threads: int
    job: str = ""

    @property
    def world_size(self) -> int:
        """Number of processes on all nodes."""
        return self.nodes * self.ranks_per_node


def plan_ranks() -> Plan:
    """Derive the plan from the machine and the environment (SLURM, KMAX_RANKS, OMP_NUM_THREADS).

    Raises:
        InputError: KMAX_RANKS is not a positive number or exceeds the GPUs; a job of several nodes runs this
            without srun, or more than once per node; the address of node 0 is unknown; or another launcher
            set RANK and WORLD_SIZE.
    """
    _refuse_other_launchers()
    gpus = gpu_count()
    ranks = positive_count("KMAX_RANKS") or max(gpus, 1)
    if 0 < gpus < ranks:
        raise InputError(f"environment variable KMAX_RANKS: {ranks} ranks exceed the {gpus} available GPUs")
    share = max(1, physical_cores() // ranks)  # engines set OMP_NUM_THREADS for the job, not for each rank
    threads = min(positive_count("OMP_NUM_THREADS") or share, share)
    nodes = positive_count("SLURM_STEP_NUM_NODES")
    if nodes is None and (reserved := positive_count("SLURM_NNODES") or 1) > 1:
        raise InputError(
            f"this job has {reserved} nodes, but the command was not started on each of them; start it with "
            f"srun --nodes={reserved} --ntasks-per-node=1 (or --nodes=1)"
        )
    nodes, job = nodes or 1, os.environ.get("SLURM_JOB_ID", "")
    if nodes == 1:
        return Plan(1, 0, ranks, "localhost", 0, threads, job)
    tasks = positive_count("SLURM_STEP_NUM_TASKS") or nodes
    if tasks != nodes:
        raise InputError(
            f"{tasks} copies of this command on {nodes} nodes; start one per node (srun --ntasks-per-node=1)"
        )
    address = os.environ.get("MASTER_ADDR") or slurm_first_address()
    port = positive_count("MASTER_PORT") or 20000 + int(job or 0) % 20000
    return Plan(nodes, int(os.environ.get("SLURM_NODEID", "0")), ranks, address, port, threads, job)


def _refuse_other_launchers() -> None:
    """Each process of torchrun, or of a container platform, would repeat the whole training."""
    rank, world = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    if rank and world.isdecimal() and int(world) > 1:
        raise InputError(
            f"environment: RANK={rank}, WORLD_SIZE={world}: kmax train starts its own ranks, one per GPU or "
            "KMAX_RANKS of them; start it once (on several nodes once on each, with srun), without "
            "torchrun and with these variables unset"
        )


def slurm_first_node(node_list: str) -> str:
    """First host of a SLURM node list: `node[003-010,12],login1` gives `node003`."""
    unfolded = re.sub(r"\[(\w+)[^\]]*\]", r"\1", node_list)
    return unfolded.split(",")[0]


def slurm_first_address() -> str:
    """Address of the first node of the SLURM job: its name, else the address known to SLURM's controller.

    Raises:
        InputError: neither can be resolved.
    """
    name = slurm_first_node(os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST", ""))
    try:
        socket.getaddrinfo(name, None)
        return name
    except (OSError, UnicodeError):
        pass
    if name and shutil.which("scontrol"):
        shown = subprocess.run(
            ["scontrol", "--oneliner", "show", "node", name],  # noqa: S607 - the one on PATH, as SLURM is set up
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
        if found := re.search(r"\bNodeAddr=(\S+)", shown):
            return found.group(1)
    raise InputError(f"the address of SLURM's first node '{name}' is unknown: set MASTER_ADDR to it")


def describe(device: torch.device) -> dict[str, Any]:
    """The hardware and software of a measurement: device, CPU threads, versions of torch and this package."""
    import torch

    return {
        "device": device.type,
        "name": torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "kmax": kmax_version(),
    }


def processor_name() -> str:
    """Model name of the CPU."""
    lines = [line for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    return lines[0].split(":", 1)[1].strip() if lines else platform.processor() or platform.machine()


def kmax_distribution() -> importlib.metadata.Distribution | None:
    """Metadata of the installed distribution of this package; None in a checkout that is not installed."""
    for name in DISTRIBUTIONS:
        try:
            return importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def kmax_version() -> str:
    """Version of this package, `unknown` in a checkout that is not installed."""
    distribution = kmax_distribution()
    return "unknown" if distribution is None else distribution.version


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
