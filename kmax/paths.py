"""Names of all artifacts, relative to the project folder (the working folder of every command).

The rules of Snakemake and the stages of DVC spell these paths out for the reader; a test compares them.
"""

from __future__ import annotations

import os
from pathlib import Path

PARAMS = Path("params")
RUNS_FILE = PARAMS / "runs.yaml"
TABLES_FILE = PARAMS / "tables.yaml"
REFERENCE_FILE = PARAMS / "reference.csv"
WEIGHTS_FILE = PARAMS / "weights.yaml"
REPORTS = Path("reports")
TABLES = REPORTS / "tables"
FIGURES = REPORTS / "figures"
SITE = REPORTS / "site"
STATE = Path("runs")


def run_file(run: str) -> Path:
    """Parameters of one run."""
    return PARAMS / "runs" / f"{run}.yaml"


def dataset_file(dataset: str) -> Path:
    """Description of one dataset."""
    return PARAMS / "datasets" / f"{dataset}.yaml"


def raw_manifest(dataset: str) -> Path:
    """What `kmax data download` found or fetched."""
    return Path("data/raw") / dataset / "manifest.json"


def prepared(dataset: str) -> Path:
    """Canonical form of a dataset: panoptic JSON and PNG per split, and a manifest."""
    return Path("data/prepared") / dataset


def prepared_manifest(dataset: str) -> Path:
    """Manifest of a prepared dataset, with the digest of the whole."""
    return prepared(dataset) / "manifest.json"


def preparation(dataset: str) -> Path:
    """Where a dataset is prepared; what a stopped preparation has made is kept there for the next call."""
    return STATE / ".prepare" / dataset


def weights(name: str) -> Path:
    """A fetched weight file."""
    return Path("data/weights") / f"{name}.safetensors"


def results(run: str) -> Path:
    """Heavy declared outputs of a run."""
    return Path("results") / run


def model(run: str) -> Path:
    """Weights of a trained or ported run; the metadata carries constructor arguments and categories."""
    return results(run) / "model.safetensors"


def port_report(run: str) -> Path:
    """What became of every tensor of a ported checkpoint."""
    return results(run) / "port.json"


def predictions(run: str, split: str | None = None) -> Path:
    """`panoptic.json`, `panoptic/*.png`, `pictures/`, `provenance.json`; and as the run file asks
    `instances.json` (COCO) or `instances/` (Cityscapes), and `semantic/*.png`.

    Those of a split other than the run's own lie beside them, and are kept out of both engines.
    """
    return results(run) / ("predictions" if split is None else f"predictions-{split}")


def predictions_provenance(run: str, split: str | None = None) -> Path:
    """Which model made the predictions."""
    return predictions(run, split) / "provenance.json"


def metrics_folder(run: str) -> Path:
    """Small measured figures of a run."""
    return REPORTS / "metrics" / run


def metrics(run: str) -> Path:
    """Scores, with provenance."""
    return metrics_folder(run) / "metrics.json"


def scores(run: str) -> Path:
    """The few numbers of `metrics` that one compares first."""
    return metrics_folder(run) / "scores.json"


def per_class(run: str) -> Path:
    """Scores per category."""
    return metrics_folder(run) / "per_class.csv"


def per_image(run: str) -> Path:
    """Counts per image and category, for bootstrap intervals."""
    return metrics_folder(run) / "per_image.npz"


def explanation(run: str) -> Path:
    """Where quality is lost: parts, confusions, and the worst images with their pictures."""
    return metrics_folder(run) / "explanation"


def history(run: str) -> Path:
    """Losses over training steps."""
    return metrics_folder(run) / "history.csv"


def speed(run: str) -> Path:
    """Parameters, FLOPs, latency and memory."""
    return metrics_folder(run) / "speed.json"


def family_report(family: str) -> Path:
    """Report on a family or selection of runs other than the default family, which has `REPORTS` itself."""
    return REPORTS / "families" / family


def state(run: str, digest: str) -> Path:
    """Mutable state of a training run: checkpoints, events, lock. Kept out of both engines."""
    return STATE / run / digest[:16]


def data_root() -> Path | None:
    """Where raw data lies outside the project, from `KMAX_DATA_ROOT`; None where it is not set."""
    root = os.environ.get("KMAX_DATA_ROOT")
    return Path(root) if root else None
