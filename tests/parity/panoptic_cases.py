"""Reading the recorded panoptic quality cases."""

import json
from pathlib import Path

from kmax.evaluation.panoptic.panoptic_files import PanopticArguments
from kmax.evaluation.panoptic.pq import PQResult, evaluate_files

METRICS = ("pq", "sq", "rq")


def arguments_of(case: Path, shared: Path | None = None, **options: object) -> PanopticArguments:
    """The files of a case folder."""
    expected = json.loads((case / "expected.json").read_text())

    def side(name: str) -> tuple[Path, Path]:
        if name in expected:
            return shared / expected[name]["json"], shared / expected[name]["folder"]
        return case / f"{name}.json", case / name

    return PanopticArguments(*side("gt"), *side("pred"), **options)


def evaluate_case(case: Path, shared: Path | None = None, **options: object) -> tuple[PQResult, dict]:
    """Evaluate a case folder; returns our result and what the official evaluator gave."""
    expected = json.loads((case / "expected.json").read_text())
    return evaluate_files(arguments_of(case, shared, **options)), expected


def largest_deviation(result: PQResult, expected: dict) -> float:
    """The largest difference of any number, over groups and categories."""
    ours, worst = result.to_json(), 0.0
    assert set(ours["per_category"]) == set(expected["per_class"])
    for category, numbers in expected["per_class"].items():
        worst = max(worst, *(abs(ours["per_category"][category][name] - numbers[name]) for name in numbers))
    for group in ("All", "Things", "Stuff"):
        if "raises" in expected[group]:  # the official evaluator divides by zero
            assert all(ours[group.lower()][name] is None for name in METRICS)
            continue
        worst = max(worst, *(abs(ours[group.lower()][name] - expected[group][name]) for name in METRICS))
        assert ours[group.lower()]["n"] == expected[group]["n"]
    return worst
