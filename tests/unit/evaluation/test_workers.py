import pytest

from kmax.errors import InputError, InputWarnings
from kmax.evaluation import workers
from kmax.evaluation.workers import MEGABYTE, bounded_workers, each_image


def halve(number: int, warnings: InputWarnings) -> int:
    warnings.add("seen", str(number))
    if number % 2:
        raise InputError(f"{number} is odd")
    return number // 2


def test_workers_are_bounded_by_cores_memory_and_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "available_cpus", lambda: 12)
    monkeypatch.setattr(workers, "free_memory", lambda: 2000 * MEGABYTE)
    assert bounded_workers(None, 10_000, 100) == 10
    assert bounded_workers(None, 10_000, 10) == 12
    assert bounded_workers(None, 17, 10) == 2
    assert bounded_workers(None, 3, 10) == 1
    assert bounded_workers(None, 10_000, 10_000) == 1
    assert bounded_workers(40, 3, 10_000) == 40
    with pytest.raises(InputError, match="at least one"):
        bounded_workers(0, 3, 10)


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_images_keep_their_order_in_any_number_of_processes(processes: int) -> None:
    assert each_image(halve, range(0, 100, 2), processes) == list(range(50))
    assert each_image(halve, [], processes) == []


@pytest.mark.parametrize("processes", [1, 3])
def test_faults_and_warnings_of_all_images_are_collected_in_order(processes: int) -> None:
    found = InputWarnings()
    found.add("before", "the loop")
    with pytest.raises(InputError) as caught:
        each_image(halve, range(6), processes, found)
    assert caught.value.faults == ["1 is odd", "3 is odd", "5 is odd"]
    assert found.lines() == ["before (the loop)", "seen (6 times, first: 0)"]
    found = InputWarnings()
    assert each_image(halve, [2, 4], processes, found) == [1, 2]
    with pytest.raises(InputError) as caught:
        each_image(halve, [2, 3], processes, strict=True)
    assert caught.value.faults == ["3 is odd", "seen (2)", "seen (3)"]
