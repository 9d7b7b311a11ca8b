import os
import signal
import time

import pytest

from kmax.errors import InputError
from kmax.training.budget import SLURM_MARGIN, read_budget, stop_signals


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch) -> None:
    for variable in ("KMAX_TIME_BUDGET", "SLURM_JOB_END_TIME"):
        monkeypatch.delenv(variable, raising=False)


def test_without_limits_it_is_never_over() -> None:
    assert not read_budget(None).over(needed=1e9)


def test_the_argument_goes_before_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("KMAX_TIME_BUDGET", "50")
    assert read_budget(None, start=1000.0).end == 1050.0
    assert read_budget(20, start=1000.0).end == 1020.0


def test_the_earlier_of_budget_and_job_end_counts(monkeypatch) -> None:
    now = time.time()
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(now + 600)))
    budget = read_budget(None, start=now)
    assert budget.end == pytest.approx(now + 600 - SLURM_MARGIN, abs=1.0)
    assert budget.reason == "SLURM job's time limit"
    assert not budget.over()
    assert budget.over(needed=600)
    assert read_budget(30, start=now).reason == "time budget of 30 s"


@pytest.mark.parametrize("text", ["soon", "-1", "nan"])
def test_a_budget_that_is_not_a_number_is_refused(monkeypatch, text: str) -> None:
    monkeypatch.setenv("KMAX_TIME_BUDGET", text)
    with pytest.raises(InputError, match="KMAX_TIME_BUDGET: expected a number of seconds"):
        read_budget(None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signals_are_noted_and_passed_on_and_handlers_restored(number: int) -> None:
    before = signal.getsignal(number)
    passed: list[int] = []
    with stop_signals(forward=passed.append) as stop:
        os.kill(os.getpid(), number)
        assert stop.out_of_time
        assert not stop.interrupted
    assert passed == [number]
    assert signal.getsignal(number) == before


def test_the_first_interrupt_is_noted_and_the_second_raises() -> None:
    with stop_signals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.interrupted
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
