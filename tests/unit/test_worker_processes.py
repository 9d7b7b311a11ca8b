"""Results of worker processes, and what their parent says when one of them fails."""

import itertools
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest

from kmax.errors import InputError
from kmax.processes import worker_processes
from kmax.processes.parallel import map_items
from kmax.processes.shared_messages import ARRAY_BYTES, shared_array
from kmax.processes.worker_processes import Crew, NoResultError

PARENT = os.getpid()


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


def results(function, tasks, workers: int = 2, **named) -> list:
    return list(Crew(function, workers, ahead=2, **named).results(iter(tasks)))


def test_results_come_in_order_and_tasks_are_read_as_they_are_needed() -> None:
    read = []

    def tasks() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    def slow_first(number: int) -> tuple[int, bool]:
        if number == 0:
            time.sleep(0.2)
        return number, os.getpid() != PARENT

    found = Crew(slow_first, 2, ahead=2).results(tasks())
    assert list(itertools.islice(found, 20)) == [(number, True) for number in range(20)]
    assert len(read) <= 24
    found.close()


@pytest.mark.parametrize("size", [10, ARRAY_BYTES, 3_000_000])
def test_arrays_of_any_size_arrive_unchanged_and_writable(size: int) -> None:
    def arrays(seed: int) -> dict[str, np.ndarray]:
        image = shared_array((3, size), np.uint8)
        rng = np.random.default_rng(seed)
        image[:] = rng.integers(0, 256, image.shape, dtype=np.uint8)
        return {"image": image, "labels": rng.random((size // 8, 2)), "turned": image.T}

    for seed, found in enumerate(results(arrays, range(3))):
        image = np.random.default_rng(seed).integers(0, 256, (3, size), dtype=np.uint8)
        assert (found["image"] == image).all()
        assert (found["turned"] == image.T).all()
        found["image"][0, 0] = 7
        assert found["labels"].flags.writeable


def test_large_tasks_and_results_do_not_block_each_other() -> None:
    tasks = [bytes([number]) * 2_000_000 for number in range(12)]
    assert results(lambda task: task + b"x", tasks) == [task + b"x" for task in tasks]


def test_an_input_error_of_a_worker_keeps_its_lines() -> None:
    def fail(number: int) -> None:
        raise InputError([f"image {number}: truncated", "another"])

    with pytest.raises(InputError) as caught:
        results(fail, range(8))
    assert caught.value.faults == ["image 0: truncated", "another"]


def test_a_bug_in_a_worker_shows_its_own_traceback() -> None:
    def a_named_function(number: int) -> float:
        return 1 / number

    with pytest.raises(ZeroDivisionError) as caught:
        results(a_named_function, range(8))
    assert "a_named_function" in caught.value.__notes__[0]


def test_a_result_that_cannot_be_pickled_is_an_error_and_not_an_endless_wait() -> None:
    with pytest.raises(Exception, match="pickle"):
        results(lambda number: lambda: number, range(4))


def test_an_error_of_the_tasks_is_raised() -> None:
    def tasks() -> Iterator[int]:
        yield 1
        raise KeyError("a bug in the iterator")

    with pytest.raises(KeyError, match="a bug in the iterator"):
        results(abs, tasks())


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (signal.SIGKILL, "SIGKILL; the system does this when memory is out: .*KMAX_WORKERS"),
        (signal.SIGUSR2, "SIGUSR2; run the command again"),
    ],
)
def test_a_worker_that_is_killed_gives_one_line(number: int, line: str) -> None:
    with pytest.raises(InputError, match=f"was ended by {line}"):
        list(map_items(lambda _: os.kill(os.getpid(), number), range(100), "killing", workers=2))


def test_a_worker_that_exits_is_a_bug() -> None:
    with pytest.raises(RuntimeError, match="exit code 3"):
        results(lambda _: os._exit(3), range(4))


def test_a_worker_that_stays_stopped_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_processes, "POLL_SECONDS", 0.01)
    with pytest.raises(InputError, match=r"was stopped \(SIGSTOP\)"):
        results(lambda _: os.kill(os.getpid(), signal.SIGSTOP), range(4))


def test_workers_that_do_not_answer_do_not_hold_up_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_processes, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(worker_processes, "LEAVE_SECONDS", 0.01)
    with pytest.raises(NoResultError):
        results(lambda _: time.sleep(1000), range(4), stopping=lambda: True)


def test_workers_end_when_the_caller_fails() -> None:
    def consume() -> None:
        for _ in map_items(abs, range(1000), "numbers", workers=2):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        consume()


def test_the_environment_bounds_the_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kmax.processes.parallel.available_cpus", lambda: 4)
    monkeypatch.setenv("KMAX_WORKERS", "0")
    assert set(map_items(lambda _: os.getpid(), range(100), "numbers")) == {PARENT}
    monkeypatch.setenv("KMAX_WORKERS", "2")
    assert PARENT not in set(map_items(lambda _: os.getpid(), range(100), "numbers"))


def test_too_few_file_descriptors_are_an_error_and_not_an_endless_wait() -> None:
    large = np.zeros(ARRAY_BYTES * 2, np.uint8)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    with pytest.raises(OSError, match="Too many open files"):
        results(lambda _: large, range(8), prepare=limited)
