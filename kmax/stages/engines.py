"""DVC and Snakemake as the verbs call them."""

from __future__ import annotations


def record(names: list[str]) -> str:
    """Commit finished stages of families or runs to DVC; returns what there is to say."""
    from kmax.engines import record

    stages = record(names)
    if not stages:
        return "nothing was there to record"
    # A stage of another pipeline than the root's is addressed as "<its dvc.yaml>:<stage>".
    pipelines = [stage.rpartition(":")[0] or "dvc.yaml" for stage in stages]
    locks = dict.fromkeys(pipeline.removesuffix("yaml") + "lock" for pipeline in pipelines)
    return "\n".join([*stages, *locks])


def restore() -> str:
    """Pull recorded stages and touch them for Snakemake; returns what there is to say."""
    from kmax.engines import restore

    return "\n".join(restore().lines())
