"""Read the files of the evaluate stage: counts per image, and the facts that make them comparable."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax import paths
from kmax.config.metrics import METRICS
from kmax.csv_files import read_csv
from kmax.data.formats.coco_panoptic import CategoryFacts
from kmax.errors import InputError
from kmax.evaluation.panoptic.pq import Counts, PQResult
from kmax.evaluation.semantic.miou import MiouResult, PixelCounts
from kmax.files import read_json

# Must be equal in both runs; keys of the provenance in metrics.json.
SHARED = ("dataset", "split", "images", "ground_truth_digest")
# The pixel counts of per_image.npz belong to the first of these metrics that metrics.json has.
PIXELS = tuple(metric.name for metric in METRICS.values() if metric.has_pixel_counts)
_COUNTS = {
    Counts: ("iou_sum", "tp", "fp", "fn"),
    PixelCounts: ("pixels_intersection", "pixels_truth", "pixels_predicted"),
}


@dataclass(frozen=True)
class Evaluated:
    """The counts of an evaluated run.

    Attributes:
        miou: None if the run's metrics have no mean IoU.
        facts: must be equal for two runs to be compared.
        miou_facts: the same for mean IoU.
    """

    run: str
    pq: PQResult
    miou: MiouResult | None
    facts: dict[str, Any]
    miou_facts: dict[str, Any]
    predictions_digest: str

    def common(self) -> dict[str, Any]:
        """The facts that all figures of a comparison share."""
        return self.facts | ({"miou": self.miou_facts} if self.miou is not None else {})

    def require_comparable(self, other: Evaluated) -> list[str]:
        """Check that both runs were evaluated on the same images and ground truth by the same evaluator.

        Returns:
            At most one line: why mean IoU cannot be compared although panoptic quality can.

        Raises:
            InputError: they were not.
        """
        differing = _differing(self.facts, other.facts)
        if not differing and list(self.pq.image_ids) != list(other.pq.image_ids):
            differing = "different images or image order"
        if not differing and self.pq.categories != other.pq.categories:
            differing = "different categories"
        if differing:
            raise InputError(
                f"{self.run} and {other.run} cannot be compared: {differing}; evaluate both with the same "
                "evaluator and data: kmax evaluate RUN"
            )
        if self.miou is None or other.miou is None:
            lacking = [run.run for run in (self, other) if run.miou is None]
            return [f"mean IoU is not compared: missing for {' and '.join(lacking)}"]
        differing = _differing(self.miou_facts, other.miou_facts)
        return [f"mean IoU is not compared: {differing}"] if differing else []


def read_evaluated(run: str) -> Evaluated:
    """Read a run's metrics.json, per_class.csv and per_image.npz.

    Raises:
        InputError: the run is not evaluated, or a file is corrupt or from another evaluation.
    """
    if not paths.metrics(run).exists():
        raise InputError(
            f"{paths.metrics(run)}: run '{run}' has not been evaluated; run: kmax evaluate {run}"
        )
    metrics = read_json(paths.metrics(run), "measured figures")
    provenance = metrics.get("provenance") if isinstance(metrics, dict) else None
    if not isinstance(provenance, dict) or not isinstance(provenance.get("evaluator"), dict):
        raise InputError(f"{paths.metrics(run)}: has no provenance; run: kmax evaluate {run}")
    arrays = _read_arrays(paths.per_image(run))
    categories = _read_categories(paths.per_class(run))
    images, ids = arrays["image_ids"].tolist(), arrays["category_ids"].tolist()
    counts, pixels = (tuple(arrays[name].astype(np.float64) for name in names) for names in _COUNTS.values())
    fits = all(array.shape == (len(images), len(ids)) for array in (*counts, *pixels))
    if ids != [category.id for category in categories] or not fits or not images:
        raise InputError(
            f"{paths.per_image(run)}: does not belong to the same evaluation as {paths.per_class(run)}"
        )
    part = next((name for name in PIXELS if isinstance(metrics.get(name), dict)), None)
    facts = {name: provenance.get(name) for name in SHARED}
    facts |= {name: _of_pq(provenance.get(name)) for name in ("evaluator", "version")}
    miou_facts: dict[str, Any] = {}
    if part is not None:
        own = metrics[part].get("provenance") or {}
        miou_facts = {"figure": part, "average": metrics[part].get("average")}
        miou_facts |= {name: metrics[part].get(name) for name in ("evaluator", "version")}
        miou_facts |= {name: own.get(name) for name in ("protocol", "ground_truth_digest")}
    return Evaluated(
        run,
        PQResult(categories, images, Counts(*counts), []),
        None if part is None else MiouResult(categories, images, PixelCounts(*pixels), []),
        facts,
        miou_facts,
        str(provenance.get("predictions_digest")),
    )


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    names = ["image_ids", "category_ids", *(name for group in _COUNTS.values() for name in group)]
    try:
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in names}
    except FileNotFoundError:
        raise InputError(f"{path}: counts per image not found; evaluate the run again") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: counts per image cannot be read: {error}") from error


def _read_categories(path: Path) -> list[CategoryFacts]:
    what = "scores per category"
    rows = read_csv(path, what, ("category_id", "name", "isthing"))
    try:
        return [CategoryFacts(int(row["category_id"]), row["name"], row["isthing"] == "1") for row in rows]
    except ValueError as error:
        raise InputError(f"{path}: {what} cannot be read: {error}") from error


def _of_pq(value: Any) -> Any:
    """The value for panoptic quality in a provenance entry by metric."""
    return value.get("pq") if isinstance(value, dict) else None


def _differing(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """The facts that differ, in words; empty if none do."""
    return "; ".join(
        f"{name.replace('_', ' ')}: {_short(ours.get(name))} and {_short(theirs.get(name))}"
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name) != theirs.get(name)
    )


def _short(value: Any) -> str:
    """A value as text; a digest is shortened to its first digits."""
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 and " " not in text else text
