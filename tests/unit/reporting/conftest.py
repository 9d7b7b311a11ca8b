import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kmax import paths

ROOT = Path(__file__).resolve().parents[3]


def metrics_of(run: str, pq: float) -> dict[str, Any]:
    """A metrics.json in the format that the evaluate stage writes."""

    def group(value: float) -> dict[str, Any]:
        return {"pq": value, "sq": 0.8, "rq": value / 0.8, "n": 4}

    def ends(value: float) -> dict[str, Any]:
        return {name: [score - 0.01, score + 0.012] for name, score in group(value).items() if name != "n"}

    values = {"all": pq, "things": pq + 0.05, "stuff": pq - 0.05}
    return {
        "warnings": [],
        "pq": {
            "evaluator": "kmax panoptic quality (panopticapi rules)",
            "version": "1",
            **{name: group(value) for name, value in values.items()},
            "per_category": {
                "1": {"pq": pq, "sq": 0.8, "rq": 0.7, "iou_sum": 8.1, "tp": 10, "fp": 1, "fn": 2}
            },
        },
        "miou": {
            "evaluator": "kmax mean IoU of panoptic maps",
            "version": "1",
            "average": "classes in ground truth or prediction",
            "miou": 0.612,
            "n": 4,
            "per_class": {"1": {"iou": None, "intersection": 0, "truth": 0, "predicted": 3}},
        },
        "intervals": {
            "level": 0.95,
            "samples": 200,
            "seed": 0,
            "pq": {name: ends(value) for name, value in values.items()},
            "miou": [0.6, 0.62],
        },
        "provenance": {
            "run": run,
            "commit": "c" * 40,
            "model_sha256": "a" * 64,
            "model_commit": "b" * 40,
            "images": 16,
            "split": "val",
        },
    }


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with the parameter files, as the working folder."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "KMAX_TRACKING", "RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


Measure = Callable[[str, float], None]


@pytest.fixture
def measure(project: Path) -> Measure:
    """Writes the outputs of the stages of a run, with a given PQ."""
    from PIL import Image

    def write(run: str, pq: float) -> None:
        folder = paths.metrics_folder(run)
        folder.mkdir(parents=True)
        paths.metrics(run).write_text(json.dumps(metrics_of(run, pq)))
        seconds = {"forward": {"median": 0.1}, "end_to_end": {"median": 0.2}}
        speed = {"parameters": 6_543_210, "flops": 12_300_000_000, "seconds": seconds}
        paths.speed(run).write_text(json.dumps({"run": run, **speed, "memory": {"above_rest": None}}))
        paths.per_class(run).write_text(
            "category_id,name,isthing,pq,sq,rq,iou_sum,tp,fp,fn,semantic_iou\n"
            f"1,circle,1,{pq},0.8,0.7,8.1,10,1,2,0.5\n2,<b>&,0,,,,0.0,0,0,0,\n"
        )
        paths.history(run).write_text(
            "step,learning_rate,loss/total,loss/class,loss/aux0/class,seconds\n10,0.1,3.0,1.0,2.0,5\n20,0.0,2,1,1,9\n"
        )
        pictures = paths.predictions(run) / "pictures/000001"
        pictures.mkdir(parents=True)
        for name in ("image", "ground_truth", "prediction", *(f"clusters_{layer}" for layer in range(1, 7))):
            Image.new("RGB", (8, 6), (200, 100, 50)).save(pictures / f"{name}.png")

    return write
