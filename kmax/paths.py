"""Names of all artifacts, relative to the project folder (the working folder of every command).

Snakemake's rules and the template of the DVC stages spell these paths out; a test compares them.
"""

from __future__ import annotations

import os
from pathlib import Path

PARAMS = Path("params")
RUNS = PARAMS / "runs"
OLD_RUNS_FILE = PARAMS / "runs.yaml"  # of earlier versions
TABLES_FILE = PARAMS / "tables.yaml"
REFERENCE_FILE = PARAMS / "reference.csv"
WEIGHTS_FILE = PARAMS / "weights.yaml"
REPORTS = Path("reports")
TABLES = REPORTS / "tables"
FIGURES = REPORTS / "figures"
SITE = REPORTS / "site"
STATE = Path("runs")
PIPELINE_TEMPLATE = Path("workflow/dvc.yaml.template")
PIPELINES = Path("workflow/pipelines")


def family_file(family: str) -> Path:
    """Parameters of the runs of one family."""
    return RUNS / f"{family}.yaml"


def pipeline_file(family: str, default: bool) -> Path:
    """The DVC pipeline of a family: the default family's is in the root, for a plain `dvc repro`."""
    return Path("dvc.yaml") if default else PIPELINES / family / "dvc.yaml"


def dataset_file(dataset: str) -> Path:
    """Description of one dataset."""
    return PARAMS / "datasets" / f"{dataset}.yaml"


def raw_manifest(dataset: str) -> Path:
    """The record of the files that `kmax data download` found or downloaded."""
    return Path("data/raw") / dataset / "manifest.json"


def prepared(dataset: str) -> Path:
    """A prepared dataset in canonical format: panoptic JSON and PNGs per split, and a manifest."""
    return Path("data/prepared") / dataset


def prepared_manifest(dataset: str) -> Path:
    """Manifest of a prepared dataset, with the digest of the whole."""
    return prepared(dataset) / "manifest.json"


def preparation(dataset: str) -> Path:
    """Where a dataset is prepared; a stopped preparation leaves its files there for the next call."""
    return STATE / ".prepare" / dataset


def weights(name: str) -> Path:
    """A downloaded weight file."""
    return Path("data/weights") / f"{name}.safetensors"


def results(run: str) -> Path:
    """Heavy declared outputs of a run."""
    return Path("results") / run


def model(run: str) -> Path:
    """Weights of a trained or ported run; the metadata carries constructor arguments and categories."""
    return results(run) / "model.safetensors"


def port_report(run: str) -> Path:
    """Status of every tensor of a ported checkpoint."""
    return results(run) / "port.json"


def predictions(run: str, split: str | None = None) -> Path:
    """`panoptic.json`, `panoptic/*.png`, `pictures/`, `provenance.json`; and as the run asks
    `instances.json` (COCO) or `instances/` (Cityscapes), and `semantic/*.png`.

    Predictions for a split other than the run's own are written beside them; neither engine tracks those.
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
    """The headline numbers of `metrics`."""
    return metrics_folder(run) / "scores.json"


def per_class(run: str) -> Path:
    """Scores per category."""
    return metrics_folder(run) / "per_class.csv"


def per_image(run: str) -> Path:
    """Counts per image and category, for bootstrap intervals."""
    return metrics_folder(run) / "per_image.npz"


def explanation(run: str) -> Path:
    """Where quality is lost: by part, by confused classes, and the worst images with their pictures."""
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
    """Mutable state of a training run: checkpoints, events, lock. Neither engine tracks it."""
    return STATE / run / digest[:16]


def data_root() -> Path | None:
    """The folder of raw data outside the project, `KMAX_DATA_ROOT`; None if it is not set."""
    root = os.environ.get("KMAX_DATA_ROOT")
    return Path(root) if root else None
