"""`kmax restore`: pulls recorded results from DVC instead of recomputing them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmax import paths
from kmax.engines.programs import dvc_repository, outputs, snakemake
from kmax.errors import InputError
from kmax.parameter_files import read_yaml


@dataclass(frozen=True)
class Restored:
    """The result of `restore`.

    Attributes:
        outputs: restored files and folders.
        stale: stages that were skipped because their parameters or inputs have changed since.
        unknown: recorded stages that no longer exist.
    """

    outputs: list[Path]
    stale: list[str]
    unknown: list[str]

    def lines(self) -> list[str]:
        """Messages for the user."""
        return [
            f"{len(self.outputs)} outputs restored; DVC and Snakemake consider them up to date",
            *(f"not restored, changed since it was recorded: {stage}" for stage in self.stale),
            *(f"not restored, no longer a stage: {stage}" for stage in self.unknown),
        ]


def restore() -> Restored:
    """Fetch the outputs that the dvc.lock files record, and mark them as up to date for Snakemake.

    Stages whose parameters or source files differ from the recorded ones are left to the engines, and so are
    their successors. Local files that DVC does not know are not overwritten.

    Raises:
        InputError: nothing is recorded, an engine is missing, or the data is in neither cache nor remote.
    """
    addresses = _recorded()
    if not addresses:
        raise InputError(
            "dvc.lock: no results are recorded; `kmax record` writes this file, commit it to git"
        )
    with dvc_repository() as repository:
        known = {stage.addressing: stage for stage in repository.index.stages}
        stages = [known[address] for address in addresses if address in known]
        stale = _stale(stages)
        fresh = [stage for stage in stages if stage.addressing not in stale]
        _fetch(repository, [stage.addressing for stage in fresh])
        restored = _present(fresh)
    if restored:
        _touch(restored)
    return Restored(restored, sorted(stale), [address for address in addresses if address not in known])


def _recorded() -> list[str]:
    """Addresses of the stages in the lock files of all pipelines, as DVC writes them."""
    locks = {"": Path("dvc.lock")}
    locks |= {f"{path.with_suffix('.yaml')}:": path for path in sorted(paths.PIPELINES.glob("*/dvc.lock"))}
    return [
        f"{prefix}{stage}"
        for prefix, lock in locks.items()
        if lock.is_file()
        for stage in (read_yaml(lock) or {}).get("stages") or ()
    ]


def _stale(stages: list[Any]) -> set[str]:
    """Addresses of the stages that differ from the lock file, and of their successors.

    All outputs may be missing, so a dependency that another stage makes is compared by the entries of both in
    the lock file.
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
    """Fetch the outputs from the remote, or from the local cache if no remote is set."""
    if not addresses:
        return
    if repository.config["remote"]:
        repository.pull(targets=addresses)
    else:
        repository.checkout(targets=addresses)


def _present(stages: list[Any]) -> list[Path]:
    """The stages' outputs.

    Raises:
        InputError: some are missing although DVC reported no error.
    """
    found = [path for stage in stages for path in outputs(stage)]
    missing = [path for path in found if not path.exists()]
    if missing:
        raise InputError(
            [f"{path}: recorded, but neither in the cache nor in the remote" for path in missing]
        )
    return found


def _touch(restored: list[Path]) -> None:
    """Have Snakemake register the restored outputs as made in the right order with the present parameters."""
    answer = snakemake(["--touch", "--forceall", "--cores", "1", "--quiet", "all", "--", *map(str, restored)])
    if answer.returncode != 0:
        output = (answer.stdout + answer.stderr).strip().splitlines()
        raise InputError(["snakemake --touch: failed on the restored files", *output[-5:]])
