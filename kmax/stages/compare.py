"""Two runs beside each other, as the verb tells them."""

from __future__ import annotations

from pathlib import Path

from kmax.config.metrics import METRICS, MIOU
from kmax.stages.text import percent, table


def compare(first: str, second: str, *, out: Path | None, samples: int, seed: int) -> str:
    """Compare the scores of two evaluated runs; what the terminal shows, also written to `out`.

    Raises:
        InputError: a run is not evaluated, or they were not judged by the same images and evaluator.
    """
    from kmax.evaluation.run import compare_runs as comparing
    from kmax.evaluation.run.evaluated_run import read_evaluated
    from kmax.files import write_json

    found = comparing.compare(read_evaluated(first), read_evaluated(second), samples=samples, seed=seed)
    metric = METRICS.get(str(found.first.miou_facts.get("figure")), MIOU)
    rows = []
    for (group, score), one in found.differences.items():
        name = metric.title if score == "miou" else f"{score.upper()} {group}"
        ends = " to ".join(percent(end, sign=True) for end in one.interval)
        scores = [percent(one.first), percent(one.second), percent(one.difference, sign=True)]
        rows.append([name, *scores, ends, f"{one.p:.4f}"])
    facts = found.first.facts
    lines = [
        f"{facts['dataset']} {facts['split']}, {facts['images']} images; {samples} resamples, in percent",
        table(["", first, second, "difference", "95% interval", "p"], rows),
        *found.notes,
    ]
    if out is not None:
        write_json(out, found.to_json())
        lines.append(str(out))
    return "\n".join(lines)
