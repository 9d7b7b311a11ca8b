"""A run in a fresh project folder whose predictions are its ground truth."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from run_entries import sections, write_run

from kmax import paths
from kmax.config import Category, Run
from kmax.data.datasets import PreparedSplit, open_prepared
from kmax.data.download.download_dataset import download
from kmax.data.formats.coco_panoptic import read_map
from kmax.data.formats.coco_panoptic_json import read_panoptic_json
from kmax.data.prepare.prepare_dataset import prepare
from kmax.inference.prediction_files import coco_results, write_labels
from kmax.inference.scored_instances import Instance
from kmax.runs.families import load_run

ROOT = Path(__file__).resolve().parents[3]


def perfect_run(folder: Path, monkeypatch: pytest.MonkeyPatch, **evaluate: Any) -> Run:
    """The run `small` of 4 generated images, predicted by its annotation.

    Args:
        folder: becomes the working folder.
        evaluate: other entries of that section.
    """
    shutil.copytree(ROOT / "params", folder / "params")
    monkeypatch.chdir(folder)
    dataset = yaml.safe_load(Path("params/datasets/shapes_smoke.yaml").read_text())
    dataset["dataset"], dataset["source"]["images"] = "shapes_small", {"train": 1, "val": 4}
    Path("params/datasets/shapes_small.yaml").write_text(yaml.safe_dump(dataset))
    content = sections("shapes-smoke")
    content["data"]["dataset"] = "shapes_small"
    content["evaluate"] |= {"bootstrap_samples": 50, **evaluate}
    write_run(Path(), "small", content)
    download("shapes_small")
    prepare("shapes_small", workers=1)
    prepared = open_prepared("shapes_small")
    split, out = prepared.splits["val"], paths.predictions("small")
    shutil.copytree(split.panoptic_dir, out / "panoptic")
    shutil.copy(split.panoptic_json, out / "panoptic.json")
    results = []
    for image, instances, classes in truths(split, prepared.categories):
        results += coco_results(instances, image.id, prepared.categories)
        write_labels(out / "semantic" / image.file_name, classes, prepared.categories)
    (out / "instances.json").write_text(json.dumps(results))
    return load_run("small")


def truths(split: PreparedSplit, categories: list[Category]):
    """Image, true instances and contiguous classes [H, W] of each image; pixels are labelled everywhere."""
    content = read_panoptic_json(split.panoptic_json)
    index = {category.id: place for place, category in enumerate(categories)}
    for image, annotation in zip(content.images, content.annotations, strict=True):
        ids = read_map(split.panoptic_dir / annotation.file_name)
        classes = np.zeros(ids.shape, np.int16)
        instances = []
        for segment in annotation.segments:
            place = index[segment.category_id]
            classes[ids == segment.id] = place
            if categories[place].isthing:
                instances.append(Instance(place, 0.5, ids == segment.id))
        yield image, instances, classes
