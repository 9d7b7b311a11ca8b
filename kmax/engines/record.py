"""`kmax record`: commits to DVC what Snakemake has made."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kmax import paths
from kmax.config import Family
from kmax.engines.programs import dvc_repository, outputs, snakemake
from kmax.errors import InputError
from kmax.runs.families import families, load_run, select
from kmax.runs.provenance import stale_results

UP_TO_DATE = "Nothing to be done"


def record(names: Iterable[str] = ()) -> list[str]:
    """Commit to DVC the stages that Snakemake has finished; `dvc repro` then has nothing to do.

    Args:
        names: families or single runs; without any, the default family.

    Returns:
        The DVC stages that were committed. Stages with missing outputs (Snakemake needs no intermediate file
        once its successors are made) are left as they were.

    Raises:
        InputError: Snakemake has jobs left, a result was made with other parameters than the run has now, an
            engine is missing, or an unknown name.
    """
    known = families()
    names = list(names) or [next(iter(known))]
    runs = select(names)
    _require_finished(names, known)
    # Snakemake does not notice changed parameters of results that it has not made itself.
    if faults := [fault for run in runs for fault in stale_results(load_run(run))]:
        raise InputError([*faults, "nothing was recorded"])
    with dvc_repository() as repository:
        committed = []
        for stage in _stages(repository, names, known):
            if all(path.exists() for path in outputs(stage)):
                # Linking the files again would make them look newer than their results.
                repository.commit(stage.addressing, force=True, relink=False)
                committed.append(stage.addressing)
    return committed


def _require_finished(names: list[str], known: dict[str, Family]) -> None:
    """Refuse unless a dry run of Snakemake for these families and runs finds nothing to do."""
    targets = [target for name in names for target in ([name] if name in known else _scores(name))]
    answer = snakemake(["--dry-run", "--cores", "1", "--quiet", "host", "--", *targets])
    output = answer.stdout + answer.stderr
    if answer.returncode != 0:
        raise InputError(
            [f"snakemake --dry-run {' '.join(targets)}: failed", *output.strip().splitlines()[-5:]]
        )
    if UP_TO_DATE not in output:
        raise InputError(
            f"snakemake has jobs left for {', '.join(names)}; nothing was recorded. "
            f"Run `snakemake --cores all {' '.join(targets)}` first"
        )


def _scores(run: str) -> list[str]:
    """The last files of a single run; Snakemake makes all others on the way to them."""
    return [str(path) for path in (paths.metrics(run), paths.speed(run))]


def _stages(repository: Any, names: list[str], known: dict[str, Family]) -> list[Any]:
    """The DVC stages of families, and those that lead to the scores of single runs, each once."""
    found: dict[str, Any] = {}
    for name in names:
        if name in known:
            stages = repository.stage.collect(str(_pipeline(known[name])))
        else:
            family = next(family for family in known.values() if name in family.runs)
            ends = [f"{_pipeline(family)}:{stage}@{name}" for stage in ("evaluate", "benchmark")]
            stages = [stage for end in ends for stage in repository.stage.collect(end, with_deps=True)]
        found |= {stage.addressing: stage for stage in stages}
    return list(found.values())


def _pipeline(family: Family) -> Path:
    path = paths.pipeline_file(family.family, family.default)
    if not path.is_file():
        raise InputError(f"{path}: not found; write the DVC pipelines with: kmax pipelines")
    return path
