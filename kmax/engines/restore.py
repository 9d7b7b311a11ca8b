"""`kmax restore`: results that somebody recorded, fetched from DVC instead of computed again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmax.errors import InputError
from kmax.parameter_files import read_yaml
from kmax.engines.programs import PIPELINES, dvc_repository, outputs, snakemake


@dataclass(frozen=True)
class Restored:
    """What `restore` did.

    Attributes:
        outputs: files and folders that are there now, as recorded.
        stale: stages that were left out, because what they depend on has changed since they were recorded.
    """

    outputs: list[Path]
    stale: list[str]

    def lines(self) -> list[str]:
        """The outcome in words."""
        told = [f"{len(self.outputs)} outputs restored; dvc and snakemake take them as up to date"]
        return told + [f"not restored, changed since it was recorded: {stage}" for stage in self.stale]


def restore() -> Restored:
    """Bring back what the dvc.lock files record, and tell Snakemake that it is up to date.

    A stage whose parameters or source files differ from the recorded ones is left to the engines, and so is
    all that follows from it. Local files that DVC does not know are not overwritten.

    Raises:
        InputError: nothing is recorded, an engine is missing, or the data is in neither cache nor remote.
    """
    addresses = _recorded()
    if not addresses:
        raise InputError("dvc.lock: nothing is recorded here; `kmax record` writes this file, git carries it")
    with dvc_repository() as repository:
        stages = [stage for address in addresses for stage in repository.stage.collect(address)]
        stale = _stale(stages)
        fresh = [stage for stage in stages if stage.addressing not in stale]
        _fetch(repository, [stage.addressing for stage in fresh])
        restored = _present(fresh)
    if restored:
        _touch(restored)
    return Restored(restored, sorted(stale))


def _recorded() -> list[str]:
    """Addresses of the stages that the lock files of all pipelines hold and that still exist."""
    pipelines = [Path("dvc.yaml"), *sorted(PIPELINES.glob("*/dvc.yaml"))]
    locks = [(path, path.with_suffix(".lock")) for path in pipelines if path.with_suffix(".lock").is_file()]
    return [
        f"{path}:{stage}" for path, lock in locks for stage in (read_yaml(lock) or {}).get("stages") or ()
    ]


def _stale(stages: list[Any]) -> set[str]:
    """Addresses of the stages that are not what the lock file says, and of those that follow from them.

    Outputs may all be missing here, so a dependency that another stage makes is compared by what the lock
    file says of both.
    """
    stale: set[str] = set()
    while True:
        made = {out.fs_path: out for stage in stages if stage.addressing not in stale for out in stage.outs}
        every = [out.fs_path for stage in stages for out in stage.outs]
        found = {stage.addressing for stage in stages if _changed(stage, made, every)}
        if found <= stale:
            return stale
        stale |= found


def _changed(stage: Any, made: dict[str, Any], every: list[str]) -> bool:
    """Whether the stage's command, parameters, sources or makers of its inputs are not the recorded ones."""
    if stage.changed_stage():
        return True
    for dependency in stage.deps:
        path = dependency.fs_path
        if path in made:
            changed = made[path].hash_info != dependency.hash_info
        elif inside := [output for output in every if Path(output).is_relative_to(path)]:
            changed = not all(output in made for output in inside)
        else:
            changed = path in every or bool(dependency.status())
        if changed:
            return True
    return False


def _fetch(repository: Any, addresses: list[str]) -> None:
    """Bring the outputs from the remote, or from the local cache where no remote is set."""
    if not addresses:
        return
    if repository.config["remote"]:
        repository.pull(targets=addresses)
    else:
        repository.checkout(targets=addresses)


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


def _touch(restored: list[Path]) -> None:
    """Have Snakemake note the restored outputs, with today's parameters, as made in the right order."""
    answer = snakemake(["--touch", "--forceall", "--cores", "1", "--quiet", "all", "--", *map(str, restored)])
    if answer.returncode != 0:
        output = (answer.stdout + answer.stderr).strip().splitlines()
        raise InputError(["snakemake --touch: failed on the restored files", *output[-5:]])
