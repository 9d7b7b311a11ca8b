"""Run a function in several new processes at once; if one of them fails, all of them end within seconds."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

from kmax.errors import InputError
from kmax.processes.child_processes import POLL_SECONDS, death, end_with_parent, kill_at_exit, signals_held
from kmax.shortages import MEMORY, shortage

GRACE_SECONDS = 2.0  # for the others to report their own errors after the first failure
EXIT_SECONDS = 10.0  # for a process to end after it has given its result


@dataclass
class ProcessGroup:
    """Processes that compute together, each on its part.

    Args:
        what: of one process, for errors, such as "rank".
        first: number of the first process.
    """

    what: str
    first: int = 0
    _processes: list[BaseProcess] = field(default_factory=list)

    def run(
        self,
        function: Callable[..., Any],
        arguments: Sequence[tuple[Any, ...]],
        environments: Sequence[Mapping[str, str]],
        check: Callable[[], None] = lambda: None,
    ) -> list[Any]:
        """Call `function(*arguments[i])` in process i, and wait for all.

        SIGINT, SIGTERM and SIGUSR1 are held back in the new processes: `function` installs its handlers and
        releases them.

        Args:
            function: picklable, as are its arguments and its result.
            environments: additional environment variables of each process.
            check: called every second; ends all processes by raising.

        Returns:
            The results, in the order of the arguments.

        Raises:
            InputError: of a process, or memory is out, or a process was killed.
            RuntimeError: a process crashed; its traceback is in the message.
        """
        context = multiprocessing.get_context("spawn")
        results: dict[int, Any] = {}
        failures: list[_Failure] = []
        waiting: dict[int, connection.Connection] = {}
        resource_tracker.ensure_running()  # its start would release the signals that are held back below
        end = kill_at_exit(self._processes)
        try:
            with signals_held():
                for place, (values, environment) in enumerate(zip(arguments, environments, strict=True)):
                    receiver, sender = context.Pipe(duplex=False)
                    body = (os.getpid(), sender, environment, function, values)
                    process: BaseProcess = context.Process(target=_member, args=body)
                    process.start()
                    self._processes.append(process)
                    sender.close()
                    waiting[place] = receiver
            failed_at = None
            while waiting and (failed_at is None or time.monotonic() < failed_at + GRACE_SECONDS):
                ready = connection.wait(list(waiting.values()), POLL_SECONDS)
                for place in [place for place, receiver in waiting.items() if receiver in ready]:
                    outcome = self._outcome(place, waiting.pop(place))
                    if isinstance(outcome, _Failure):
                        failures.append(outcome)
                    else:
                        results[place] = outcome
                if failures and failed_at is None:
                    failed_at = time.monotonic()
                if failed_at is None:
                    check()
            if failures:
                raise _worst(failures)
            finish = time.monotonic() + EXIT_SECONDS
            for process in self._processes:
                process.join(max(0.0, finish - time.monotonic()))
            return [results[place] for place in range(len(arguments))]
        finally:
            end()

    def signal(self, number: int) -> None:
        """Send a signal to all processes."""
        for process in self._processes:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, number)

    def _outcome(self, place: int, receiver: connection.Connection) -> Any:
        """What a process has sent at its end: its result, or a failure."""
        name = f"{self.what} {self.first + place}"
        with receiver:
            try:
                outcome = receiver.recv()
            except EOFError:
                process = self._processes[place]
                process.join(GRACE_SECONDS)
                error = death(name, process, MEMORY)
                faults = error.faults if isinstance(error, InputError) else []
                return _Failure(faults, str(error), time.time())
        if isinstance(outcome, _Failure):
            return replace(outcome, crash=f"{name} failed:\n{outcome.crash}")
        return outcome


@dataclass(frozen=True)
class _Failure:
    """How a process failed.

    Attributes:
        faults: of an `InputError`; empty for a crash.
        crash: the number of the process and its traceback.
        time: in seconds since the epoch.
    """

    faults: list[str]
    crash: str
    time: float


def _worst(failures: list[_Failure]) -> Exception:
    """An `InputError` if any process reported one, else the first crash."""
    first = min(failures, key=lambda failure: (not failure.faults, failure.time))
    return InputError(first.faults) if first.faults else RuntimeError(first.crash)


def _member(
    parent: int,
    sender: connection.Connection,
    environment: Mapping[str, str],
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    """Body of one process."""
    end_with_parent(parent)
    os.environ.update(environment)
    try:
        outcome = function(*arguments)
    except Exception as error:
        now = time.time()
        line = None if isinstance(error, InputError) else shortage(error)
        faults = error.faults if isinstance(error, InputError) else [line] if line else []
        outcome = _Failure(faults, traceback.format_exc(), now)
    sender.send(outcome)
    sender.close()
    if isinstance(outcome, _Failure):
        sys.stderr.flush()
        os._exit(1)  # at exit, libraries may wait for the processes that still compute
