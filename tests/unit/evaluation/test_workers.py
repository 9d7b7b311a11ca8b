import pytest

from kmax.errors import InputError
from kmax.evaluation import workers
from kmax.evaluation.workers import MEGABYTE, bounded_workers, each_image


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
    assert list(each_image(str, range(50), processes)) == [str(number) for number in range(50)]
    assert list(each_image(str, [], processes)) == []
