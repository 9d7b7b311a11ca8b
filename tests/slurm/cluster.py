"""A real SLURM of two nodes on this machine, each with two pretended GPUs, for tests.

Everything lies in one temporary folder: keys, sockets, state, logs. All daemons run in the foreground as
children of this process and end with it. Needs root, and Debian's slurmctld, slurmd, slurm-client and munge.

By hand: `python tests/slurm/cluster.py COMMAND...` runs a command with the cluster up.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
START_SECONDS = 60
STOP_SECONDS = 20

CONFIGURATION = """\
ClusterName=kmax
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdSpoolDir={folder}/spool.%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
GresTypes=gpu
MinJobAge=3600
SlurmdParameters=config_overrides
NodeName=DEFAULT CPUs=2 RealMemory=10000 Gres=gpu:2
NodeName=node[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports[1]}-{ports[2]}]
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes:
        folder: its configuration, state and logs.
        environment: what a process needs to talk to it.
        daemons: its processes.
    """

    folder: Path
    environment: dict[str, str]
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, *command: str) -> str:
        """Standard output of a command that talks to the cluster."""
        answer = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True)
        return answer.stdout

    def jobs(self) -> list[dict[str, str]]:
        """All jobs that the controller remembers, as it describes them (JobId, NodeList, JobState, ...)."""
        described = self.run("scontrol", "--oneliner", "show", "jobs").splitlines()
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in described]


def lacking() -> str | None:
    """Why no cluster can be brought up here; None where it can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: slurmctld slurmd slurm-client munge)"
    if os.geteuid() != 0:
        return "SLURM's daemons and munge's need root"
    return None


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Bring the cluster up; on leaving, cancel its jobs, stop its daemons and remove its folder."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kmax-slurm-")))
        folder.chmod(0o755)
        _configure(folder)
        path = f"{_wrappers(folder)}{os.pathsep}{PATH}"
        environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
        # SLURM's own variables, as inside a job of another cluster, would lead its commands astray.
        environment = {
            name: value
            for name, value in environment.items()
            if name == "SLURM_CONF" or not name.startswith(("SLURM_", "SBATCH_", "SRUN_"))
        }
        running = Cluster(folder, environment)

        munge = folder / "munge"
        options = ["key-file=key", "socket=socket", "pid-file=pid", "log-file=log", "seed-file=seed"]
        arguments = [f"--{name}={munge / file}" for name, file in (option.split("=") for option in options)]
        _daemon(stack, running, ["munged", "--foreground", *arguments], user="munge")
        _wait(running, (munge / "socket").exists, "munged made no socket")
        _daemon(stack, running, ["slurmctld", "-D"])
        for node in ("node1", "node2"):
            _daemon(stack, running, ["slurmd", "-D", "-N", node])
        _wait(running, lambda: _idle_nodes(running) == 2, "the nodes did not become idle")
        try:
            yield running
        finally:
            _cancel_all(running)


def _configure(folder: Path) -> None:
    host = socket.gethostname().split(".")[0]
    (folder / "slurm.conf").write_text(CONFIGURATION.format(host=host, folder=folder, ports=_free_ports()))
    gpus = folder / "gpu"
    (folder / "gres.conf").write_text(f"NodeName=node[1-2] Name=gpu File={gpus}[1-2]\n")
    for index in (1, 2):
        gpus.with_name(f"gpu{index}").touch()
    for name in ("state", "spool.node1", "spool.node2", "munge"):
        (folder / name).mkdir(mode=0o755)
    (folder / "munge" / "key").write_bytes(os.urandom(128))
    (folder / "munge" / "key").chmod(0o600)
    for path in (folder / "munge", folder / "munge" / "key"):
        shutil.chown(path, "munge", "munge")


def _wrappers(folder: Path) -> Path:
    """Commands that find this cluster without SLURM_CONF, which Snakemake takes from the jobs it starts."""
    wrappers = folder / "bin"
    wrappers.mkdir()
    for name in ("srun", "scontrol"):
        script = wrappers / name
        script.write_text(
            f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which(name, path=PATH)} "$@"\n'
        )
        script.chmod(0o755)
    return wrappers


def _free_ports() -> list[int]:
    """A free port for the controller and two neighbours for the nodes."""
    for _ in range(100):
        with contextlib.ExitStack() as stack:
            probes = [stack.enter_context(socket.socket()) for _ in range(3)]
            probes[0].bind(("127.0.0.1", 0))
            probes[1].bind(("127.0.0.1", 0))
            first = probes[1].getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                probes[2].bind(("127.0.0.1", first + 1))
                return [probes[0].getsockname()[1], first, first + 1]
    raise RuntimeError("no two free ports in a row")


def _daemon(
    stack: contextlib.ExitStack, running: Cluster, command: list[str], user: str | None = None
) -> None:
    """Start a daemon in a new session; the exit stack ends it."""
    with open(running.folder / f"{len(running.daemons)}-{command[0]}.out", "wb") as out:
        process = subprocess.Popen(
            command,
            env=running.environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            user=user,
            group=user,
            start_new_session=True,
        )
    running.daemons.append(process)
    stack.callback(_stop, process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _idle_nodes(running: Cluster) -> int:
    answer = subprocess.run(
        ["sinfo", "--noheader", "--Node", "--states=idle", "--format=%N"],
        env=running.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return len(answer.stdout.split())


def _cancel_all(running: Cluster) -> None:
    command = ["scancel", "--partition=main"]
    subprocess.run(command, env=running.environment, check=False, capture_output=True)
    done = "no job is left"
    with contextlib.suppress(RuntimeError):
        _wait(running, lambda: not running.run("squeue", "--noheader").strip(), done)


def _wait(running: Cluster, condition: Callable[[], bool], failure: str) -> None:
    """Poll until `condition` holds; with the ends of all logs in the error if it never will."""
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in running.daemons):
            logs = [
                path for pattern in ("*.log", "*.out", "munge/log") for path in running.folder.glob(pattern)
            ]
            ends = "\n".join(f"{path.name}: {path.read_text()[-1000:]}" for path in logs)
            raise RuntimeError(f"{failure}\n{ends}")
        time.sleep(0.2)


if __name__ == "__main__":
    if reason := lacking():
        sys.exit(reason)
    with cluster() as up:
        sys.exit(subprocess.run(sys.argv[1:], env=up.environment, check=False).returncode)
