"""DVC and Snakemake as the verbs call them."""

from __future__ import annotations


def record(names: list[str]) -> str:
    """Commit finished stages of families or runs to DVC; returns what there is to say."""
    from kmax.versioning import record

    stages = record(names)
    return "\n".join([*stages, "dvc.lock"]) if stages else "nothing was there to record"


def restore() -> str:
    """Pull recorded stages and touch them for Snakemake; returns what there is to say."""
    from kmax.versioning import restore

    return "\n".join(restore().lines())
