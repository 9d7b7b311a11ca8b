"""Facts about the machine and the process: memory, cores, launchers, loader workers."""

from pathlib import Path

import pytest

from kmax import machine
from kmax.errors import InputError
from kmax.machine import environment_count, free_memory, launcher, loader_workers, slurm_first_node


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "KMAX_WORKERS"):
        monkeypatch.delenv(name, raising=False)


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


@pytest.mark.parametrize("names", [("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")])
def test_shards_come_from_the_launcher(monkeypatch: pytest.MonkeyPatch, names: tuple[str, str]) -> None:
    assert launcher() == (0, 1)
    monkeypatch.setenv(names[0], "2")
    monkeypatch.setenv(names[1], "3")
    assert launcher() == (2, 3)


@pytest.mark.parametrize(("rank", "world"), [("2", "2"), ("-1", "2"), ("a", "2"), ("0", "")])
def test_impossible_shards_are_refused(monkeypatch: pytest.MonkeyPatch, rank: str, world: str) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(InputError, match="RANK"):
        launcher()


def test_loader_workers_follow_cores_and_gpus_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_cpus", lambda: 24)
    assert [loader_workers(gpus) for gpus in (0, 1, 4)] == [0, 8, 6]
    monkeypatch.setenv("KMAX_WORKERS", "3")
    assert [loader_workers(gpus) for gpus in (0, 1, 4)] == [3, 3, 3]
    monkeypatch.setenv("KMAX_WORKERS", "many")
    with pytest.raises(InputError, match="KMAX_WORKERS: expected a number, got 'many'"):
        loader_workers(1)


def test_the_first_of_several_counts_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment_count("KMAX_WORKERS") is None
    monkeypatch.setenv("KMAX_WORKERS", "4,2")
    assert environment_count("KMAX_WORKERS") == 4
    monkeypatch.setenv("KMAX_WORKERS", "0")
    with pytest.raises(InputError, match="a positive number"):
        environment_count("KMAX_WORKERS", minimum=1)


@pytest.mark.parametrize(
    ("node_list", "first"),
    [
        ("node1", "node1"),
        ("node[1-2]", "node1"),
        ("node[003-010,12],login1", "node003"),
        ("gpu7,gpu9", "gpu7"),
        ("r[2,4]n[11-12]", "r2n11"),
        ("", ""),
    ],
)
def test_first_node_of_a_slurm_list(node_list: str, first: str) -> None:
    assert slurm_first_node(node_list) == first
