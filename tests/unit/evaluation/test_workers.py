from pathlib import Path

import pytest

from kmax.errors import InputError
from kmax.evaluation import workers
from kmax.evaluation.workers import MEGABYTE, bounded_workers, each_image, free_memory


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_tighter_limit_of_memory_counts(tmp_path: Path) -> None:
    write(tmp_path / "proc/meminfo", "MemTotal: 9000 kB\nMemAvailable: 4000 kB\n")
    assert free_memory(tmp_path) == 4000 * 1024
    write(tmp_path / "sys/fs/cgroup/memory.max", "max\n")
    write(tmp_path / "sys/fs/cgroup/memory.current", "1000\n")
    assert free_memory(tmp_path) == 4000 * 1024
    write(tmp_path / "sys/fs/cgroup/memory.max", "501000\n")
    assert free_memory(tmp_path) == 500_000


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
