"""The launchers of a training on several nodes: they meet at the first node and notice when one is gone.

Each launcher counts its heartbeats in a store at the first node. So a node that loses its power, whose
connections stay open, is noticed as well, long before the ranks' exchanges time out.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from torch.distributed import DistError, FileStore, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from kmax.errors import InputError, OutOfTimeError
from kmax.machine import Plan

BEAT_SECONDS = 1.0
SILENT_BEATS = 40  # a launcher that was not heard for so many own beats is gone
SUSPECT_BEATS = 4  # the same if ranks of this node have lost their connections
REPORT_SECONDS = 6.0  # for the report of the node that failed first
LEAVE_SECONDS = 60.0  # the first node stays until the others have ended


@dataclass(frozen=True)
class Meeting:
    """Where ranks find each other: a file on one node, else an address.

    Attributes:
        file: for one node, so that nothing listens to a network.
        address: of the first of several nodes.
        port: of the first node.
        patience: seconds to wait for it.
    """

    file: str = ""
    address: str = ""
    port: int = 0
    patience: float = 0.0

    def store(self) -> Store:
        """The store of the ranks, for `init_process_group`."""
        if self.file:
            return FileStore(self.file)
        wait = timedelta(seconds=self.patience)
        first = TCPStore(self.address, self.port, is_master=False, timeout=wait)
        return PrefixStore("ranks", first)


class Nodes:
    """The other launchers, watched by a thread.

    Args:
        plan: of several nodes.
        store: shared by all launchers.
        patience: seconds that ranks wait for the store.

    Attributes:
        meeting: where the ranks find each other.
    """

    def __init__(self, plan: Plan, store: Store, patience: float) -> None:
        self.plan, self.store = plan, store
        self.meeting = Meeting(address=plan.address, port=plan.port, patience=patience)
        self._counts = [0] * plan.nodes
        self._silent = [0] * plan.nodes
        self._beats = self._beats_seen = self._stuck = 0
        self._failure: str | None = None
        self._over = threading.Event()

    @classmethod
    @contextlib.contextmanager
    def meet(cls, plan: Plan, patience: float) -> Iterator[Nodes]:
        """Connect to the other launchers within `patience` seconds; at the end, report how this one ended.

        Raises:
            InputError: they cannot be reached, or one of them failed.
        """
        try:
            store = TCPStore(
                plan.address,
                plan.port,
                plan.nodes,
                is_master=plan.node == 0,
                timeout=timedelta(seconds=patience),
            )
        except DistError as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"the {plan.nodes} nodes could not connect at {plan.address}:{plan.port} ({reason}): check "
                "that the command runs on each node and that the port is open, or set MASTER_ADDR and "
                "MASTER_PORT to another address"
            ) from error
        nodes = cls(plan, store, patience)
        thread = threading.Thread(target=nodes._watch, daemon=True)
        thread.start()
        try:
            yield nodes
        except (OutOfTimeError, KeyboardInterrupt):
            nodes._leave()
            raise
        except Exception as error:
            nodes._fail(error)
            raise
        nodes._leave()

    def check(self) -> None:
        """Raise if another launcher failed or is gone; called every second.

        Raises:
            InputError: names the node, and its error if it is known.
        """
        if self._failure is not None:
            raise InputError(self._failure)
        self._stuck = self._stuck + 1 if self._beats == self._beats_seen else 0
        self._beats_seen = self._beats
        if self._stuck >= SILENT_BEATS:
            raise InputError(_gone(0))
        for node, silent in enumerate(self._silent):
            if silent >= SILENT_BEATS:
                raise InputError(_gone(node))

    def _watch(self) -> None:
        """Beat, and count in own beats for how long each of the others was silent.

        A suspended job (SLURM stops all its processes) counts no beats, so it is not taken for a lost node.
        """
        try:
            while not self._over.wait(BEAT_SECONDS):
                self.store.add(f"beats/{self.plan.node}", 1)
                for node in range(self.plan.nodes):
                    count = self.store.add(f"beats/{node}", 0)
                    ended = self.store.check([f"ended/{node}"])
                    self._silent[node] = 0 if ended or count != self._counts[node] else self._silent[node] + 1
                    self._counts[node] = count
                if self.store.check(["failure"]):
                    failed = json.loads(self.store.get("failure"))
                    self._failure = f"node {failed['node']} failed: {failed['line']}"
                self._beats += 1
        except (DistError, RuntimeError):
            self._failure = self._failure or _gone(0)

    def _fail(self, error: Exception) -> None:
        """Report this node's error to the others; if another node failed first, raise its error instead."""
        lines = str(error).splitlines() or [type(error).__name__]
        line = lines[0] if isinstance(error, InputError) else lines[-1]
        if not isinstance(error, InputError):  # perhaps only the connection to the failed node
            end = time.monotonic() + REPORT_SECONDS
            while self._failure is None and time.monotonic() < end:
                time.sleep(BEAT_SECONDS / 10)
                for node, silent in enumerate(self._silent):
                    if silent >= SUSPECT_BEATS and self._failure is None:
                        self._failure = _gone(node)
        own = json.dumps({"node": self.plan.node, "line": line})
        with contextlib.suppress(DistError, RuntimeError):
            if self._failure is None:
                self.store.set("failure", own)
        self._over.set()
        if self.plan.node == 0:
            time.sleep(2 * BEAT_SECONDS)  # the others read it before the store ends with this process
        if self._failure is not None and not isinstance(error, InputError):
            raise InputError(self._failure) from error

    def _leave(self) -> None:
        """Report that this node has ended; the first one, which holds the store, waits for them."""
        with contextlib.suppress(DistError, RuntimeError):
            self.store.set(f"ended/{self.plan.node}", "")
            others = [f"ended/{node}" for node in range(self.plan.nodes)]
            end = time.monotonic() + (LEAVE_SECONDS if self.plan.node == 0 else 0.0)
            while time.monotonic() < end and self._failure is None and not self.store.check(others):
                time.sleep(BEAT_SECONDS / 10)
        self._over.set()


def _gone(node: int) -> str:
    return f"node {node} does not answer any more; run again to resume from the last checkpoint"
