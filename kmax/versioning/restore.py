"""`kmax restore`: results that somebody recorded, made again from DVC instead of computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kmax.config import read_yaml
from kmax.errors import InputError
from kmax.versioning.engines import PIPELINES, dvc_repository, outputs, snakemake


def restore() -> list[str]:
    """Bring back what the dvc.lock files record, and tell Snakemake that it is up to date.

    Local files that DVC does not know are not overwritten.

    Returns:
        Paths of the restored outputs.

    Raises:
        InputError: nothing is recorded, an engine is missing, or the data is in neither cache nor remote.
    """
    recorded = _recorded()
    if not recorded:
        raise InputError(
            "dvc.lock: nothing is recorded in this checkout; `kmax record` writes it, git carries it"
        )
    with dvc_repository() as repository:
        if repository.config["core"].get("remote") or repository.config["remote"]:
            repository.pull(targets=recorded)
        else:
            repository.checkout(targets=recorded)
        stages = [stage for target in recorded for stage in repository.stage.collect(target)]
        restored = _present(stages)
    answer = snakemake(["--touch", "--forceall", "--cores", "1", "--quiet", "all", "--", *map(str, restored)])
    if answer.returncode != 0:
        output = (answer.stdout + answer.stderr).strip().splitlines()
        raise InputError(["snakemake --touch: failed on the restored files", *output[-5:]])
    return [str(path) for path in restored]


def _recorded() -> list[str]:
    """Addresses of the stages that the lock files of all pipelines hold."""
    locks = [Path("dvc.lock"), *sorted(PIPELINES.glob("*/dvc.lock"))]
    return [
        f"{lock.with_suffix('.yaml')}:{stage}"
        for lock in locks
        if lock.is_file()
        for stage in read_yaml(lock)["stages"]
    ]


def _present(stages: list[Any]) -> list[Path]:
    """The stages' outputs.

    Raises:
        InputError: some are not there, although DVC was content.
    """
    paths = [path for stage in stages for path in outputs(stage)]
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise InputError([f"{path}: recorded, but in neither cache nor remote" for path in missing])
    return paths
