"""Complete runs through the command line, and their minimum scores; 5 to 15 minutes each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from projects import run

from kmax import paths

# With room for the last digits, which differ from machine to machine.
MINIMAL_PQ, MINIMAL_PQ_THINGS = 0.50, 0.20
# Of what the stride-4 grid of masks allows on the same images.
MINIMAL_SHARE_OF_CEILING = 0.85


def make(project: Path, dataset: str, name: str, *, fresh: bool = False, **env: str) -> dict[str, Any]:
    """All stages of a run up to its scores, with the verbs of the command line; what metrics.json says."""
    stages = [["data", "download", dataset], ["data", "prepare", dataset]]
    stages += [["train", name, *(["--fresh"] if fresh else [])], ["predict", name], ["evaluate", name]]
    for stage in stages:
        run(project, "kmax", *stage, env=env)
    return json.loads((project / paths.metrics(name)).read_text())


@pytest.mark.long
def test_shapes_are_learned_from_scratch_to_the_same_scores_each_time(project: Path) -> None:
    first = make(project, "shapes", "shapes-tiny")
    assert first["pq"]["all"]["pq"] >= MINIMAL_PQ
    assert first["pq"]["things"]["pq"] >= MINIMAL_PQ_THINGS
    again = make(project, "shapes", "shapes-tiny", fresh=True)
    for part in ("pq", "miou", "intervals"):
        assert again[part] == first[part]
    assert again["provenance"]["predictions_digest"] == first["provenance"]["predictions_digest"]


@pytest.mark.long
def test_the_network_overfits_eight_real_images(project: Path, samples: Path) -> None:
    make(project, "coco_mini", "coco_mini-overfit", KMAX_DATA_ROOT=str(samples))
    scores = json.loads((project / paths.scores("coco_mini-overfit")).read_text())
    assert scores["pq"] >= MINIMAL_SHARE_OF_CEILING * scores["pq_ceiling"]
