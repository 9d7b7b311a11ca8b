"""What was measured of a run, read from files: the same structure as from MLflow (`from_mlflow`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kmax import files, paths
from kmax.tracking.events import flatten

SPEED = "speed"


@dataclass(frozen=True)
class Measured:
    """Numbers and texts of metrics.json by path, and of speed.json by path behind `speed/`.

    Attributes:
        run: that was measured.
        numbers: such as `pq/all/pq`, `intervals/pq/all/pq/0`, `speed/parameters`.
        texts: such as `pq/evaluator`, `provenance/commit`.
    """

    run: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)

    def interval(self, path: str) -> tuple[float, float] | None:
        """The 95% interval of a number, where there is one."""
        *above, name = path.split("/")
        # The interval of `miou/miou` stands at `intervals/miou`.
        place = "/".join(above) if above[-1:] == [name] else path
        low, high = (self.numbers.get(f"intervals/{place}/{end}") for end in (0, 1))
        return None if low is None or high is None else (low, high)

    def evaluator(self, path: str) -> str | None:
        """Who computed a number: the evaluator and its version, from the number's part of metrics.json."""
        part = path.split("/")[0]
        name = self.texts.get(f"{part}/evaluator")
        version = self.texts.get(f"{part}/version")
        return f"{name} (version {version})" if name and version else name


def read_measured(runs: Iterable[str]) -> dict[str, Measured]:
    """What the files of each run hold; runs of which nothing was measured are left out.

    Raises:
        InputError: a file is damaged.
    """
    measured = {}
    for run in runs:
        numbers: dict[str, float] = {}
        texts: dict[str, str] = {}
        for path, prefix in ((paths.metrics(run), ""), (paths.speed(run), SPEED)):
            if path.exists():
                value = files.read_json(path, "measured figures")
                some_numbers, some_texts = flatten({prefix: value} if prefix else value)
                numbers |= some_numbers
                texts |= some_texts
        if numbers:
            measured[run] = Measured(run, numbers, texts)
    return measured


def seeds_of(run: str, known: Iterable[str]) -> list[str]:
    """The runs among `known` that differ from `run` by their seed only: itself and `<run>-s<seed>`."""
    seeded = re.compile(rf"{re.escape(run)}(-s(\d+))?")
    found = [(int(match[2] or -1), name) for name in known if (match := seeded.fullmatch(name))]
    return [name for _, name in sorted(found)]
