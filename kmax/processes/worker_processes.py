"""Apply a function to tasks in forked worker processes; whatever happens, none of them outlives its parent.

Each worker has a socket of its own and no locks, so a worker that dies is noticed at once and blocks nobody.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import socket
import time
import traceback
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from kmax.errors import InputError
from kmax.processes.child_processes import (
    POLL_SECONDS,
    death,
    end_with_parent,
    is_stopped,
    kill_at_exit,
    release_signals,
    signals_held,
)
from kmax.processes.shared_messages import receive, send

Task = TypeVar("Task")
Result = TypeVar("Result")

ADVICE = "give it more memory, or start fewer worker processes (KMAX_WORKERS; 0: none)"
STOPPED_POLLS = 10  # a worker that stays stopped (SIGSTOP) for so many seconds is a failure
UNHEARD_POLLS = 5  # seconds without a result after the caller was asked to stop
LEAVE_SECONDS = 2.0  # for the task at hand at the end; then workers are killed
_END: Any = object()


class NoResultError(Exception):
    """The caller was asked to stop, and the workers give no result."""


@dataclass(frozen=True)
class Crew(Generic[Task, Result]):
    """How tasks are worked on.

    Attributes:
        function: runs in the workers; it is inherited, not pickled. Its results are pickled.
        workers: number of processes.
        ahead: tasks per worker that are handed out before their results are taken.
        prepare: called once in each worker.
        ignored: signals that workers ignore; the other ones end them.
        pickler: pickles the results.
        stopping: whether the caller was asked to stop; then it no longer waits for long.
    """

    function: Callable[[Task], Result]
    workers: int
    ahead: int
    prepare: Callable[[], None] = lambda: None
    ignored: Collection[int] = (signal.SIGINT,)
    pickler: type[pickle.Pickler] = pickle.Pickler
    stopping: Callable[[], bool] = lambda: False

    def results(self, tasks: Iterator[Task]) -> Generator[Result, None, None]:
        """The results of all tasks, in order; `tasks` is read lazily.

        Raises:
            InputError: a worker was killed or stopped.
            NoResultError: `stopping`, and no result came for seconds.
            Exception: what `function` raised, or the iterator of tasks.
        """
        workers: list[_Worker] = []
        processes: list[BaseProcess] = []
        end = kill_at_exit(processes)
        try:
            for _ in range(self.workers):
                self._start(workers, processes)
            yield from self._exchange(workers, tasks)
        finally:
            for worker in workers:
                worker.channel.close()  # a worker that is at work finds it closed when it has finished
            finish = time.monotonic() + LEAVE_SECONDS
            for process in processes:
                process.join(max(0.0, finish - time.monotonic()))
            end()

    def _start(self, workers: list[_Worker], processes: list[BaseProcess]) -> None:
        ours, theirs = socket.socketpair()
        inherited = [ours, *(worker.channel for worker in workers)]
        with theirs, signals_held():
            arguments = (theirs, inherited, os.getpid())
            process = multiprocessing.get_context("fork").Process(
                target=self._serve, args=arguments, daemon=True
            )
            try:
                process.start()
            except BaseException:
                ours.close()
                raise
            processes.append(process)
            workers.append(_Worker(process, ours))

    def _serve(self, channel: socket.socket, inherited: list[socket.socket], parent: int) -> None:
        """Body of a worker: tasks until the parent closes the channel."""
        end_with_parent(parent)
        release_signals(self.ignored)
        for other in inherited:
            other.close()
        self.prepare()
        with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
            while True:
                outcome = self._outcome(receive(channel))
                try:
                    send(channel, outcome, self.pickler)
                except (BrokenPipeError, ConnectionResetError):
                    raise
                except Exception as error:  # no memory for the result, or it cannot be pickled
                    send(channel, (False, _portable(error)))

    def _outcome(self, task: Task) -> tuple[bool, Any]:
        try:
            return True, self.function(task)
        except Exception as error:
            return False, _portable(error)

    def _exchange(self, workers: list[_Worker], tasks: Iterator[Task]) -> Iterator[Result]:
        owners: deque[_Worker] = deque()  # of the tasks whose results were not yielded yet
        while True:
            while len(owners) < self.ahead * self.workers and (task := next(tasks, _END)) is not _END:
                owner = min(workers, key=lambda worker: worker.unfinished)
                owner.give(task)
                owners.append(owner)
            if not owners:
                return
            done, value = self._wait(owners.popleft(), workers)
            if not done:
                raise value
            yield value

    def _wait(self, owner: _Worker, workers: list[_Worker]) -> tuple[bool, Any]:
        """The oldest result of `owner`; meanwhile those of others are received, too."""
        unheard = stopped = 0
        while not owner.results:
            ready = connection.wait([worker.channel for worker in workers], POLL_SECONDS)
            for worker in workers:
                if worker.channel in ready:
                    worker.take()
            if ready:
                continue
            unheard = unheard + 1 if self.stopping() else 0
            if unheard >= UNHEARD_POLLS:
                raise NoResultError(f"the worker process {owner.process.pid} has not answered")
            stopped = stopped + 1 if is_stopped(owner.process.pid) else 0
            if stopped >= STOPPED_POLLS:
                raise InputError(
                    f"the worker process {owner.process.pid} was stopped (SIGSTOP) and not continued: "
                    "run the command again"
                )
        return owner.results.popleft()


@dataclass(eq=False)
class _Worker:
    """One process, seen from its parent."""

    process: BaseProcess
    channel: socket.socket
    unfinished: int = 0
    results: deque[tuple[bool, Any]] = field(default_factory=deque)

    def give(self, task: Any) -> None:
        try:
            send(self.channel, task)
        except (BrokenPipeError, ConnectionResetError):
            raise self._death() from None
        self.unfinished += 1

    def take(self) -> None:
        try:
            self.results.append(receive(self.channel))
        except EOFError:
            raise self._death() from None
        self.unfinished -= 1

    def _death(self) -> Exception:
        self.process.join(POLL_SECONDS)
        if self.process.exitcode == -signal.SIGTERM:
            time.sleep(
                POLL_SECONDS / 2
            )  # SLURM signals whole jobs: then the parent's own signal is on its way
        return death("a worker process", self.process, ADVICE)


def _portable(error: Exception) -> Exception:
    """An error that survives pickling, with the worker's traceback as a note."""
    if isinstance(error, InputError):
        return error
    trace = "".join(traceback.format_exception(error))
    try:
        if not isinstance(pickle.loads(pickle.dumps(error)), type(error)):  # noqa: S301 - our own bytes
            raise TypeError
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"in a worker process:\n{trace}")
    return error
