"""A project folder of its own per test, and a small dataset in COCO layout that tests may damage."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from faulty_server import Server, serving
from PIL import Image
from small_datasets import ROOT, Own

from kmax.data.formats.coco_panoptic import write_map


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder with the real parameter files, as the working folder."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "params", folder / "params")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("KMAX_DATA_ROOT", raising=False)
    return folder


@pytest.fixture
def own(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Own:
    root = tmp_path / "media" / "own"
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        images, annotations = [], []
        for i in range(3):
            name = f"{split}{i}.png"
            height, width = 20 + i, 30 - i
            Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(
                root / "images" / name
            )
            ids = np.full((height, width), 7)
            ids[:4] = 0
            ids[6:12, 5:15] = 70000
            write_map(root / split / name, ids)
            box = {7: [0, 4, width, height - 4], 70000: [5, 6, 10, 6]}
            segments = [
                {
                    "id": key,
                    "category_id": category,
                    "area": int((ids == key).sum()),
                    "bbox": box[key],
                    "iscrowd": 0,
                }
                for key, category in ((7, 20), (70000, 3))
            ]
            images.append({"id": i, "file_name": name, "width": width, "height": height})
            annotations.append({"image_id": i, "file_name": name, "segments_info": segments})
        categories = [{"id": 20, "name": "ground", "isthing": 0}, {"id": 3, "name": "box", "isthing": 1}]
        value = {"images": images, "annotations": annotations, "categories": categories}
        (root / f"{split}.json").write_text(json.dumps(value))
    splits = {
        split: {"images": "images", "panoptic_json": f"{split}.json", "panoptic_dir": split}
        for split in ("train", "val")
    }
    source = {"kind": "coco_panoptic", "root": None, "folder": "own", "files": [], "splits": splits}
    dataset = {
        "dataset": "own",
        "description": "boxes",
        "licence": "none",
        "citation": None,
        "source": source,
        "categories": None,
    }
    Path("params/datasets/own.yaml").write_text(yaml.safe_dump(dataset))
    monkeypatch.setenv("KMAX_DATA_ROOT", str(root.parent))
    return Own(root)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of archives, on 127.0.0.1."""
    with serving() as running:
        yield running


@pytest.fixture
def data_root(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of datasets, where KMAX_DATA_ROOT points to."""
    folder = tmp_path / "datasets"
    folder.mkdir()
    monkeypatch.setenv("KMAX_DATA_ROOT", str(folder))
    return folder
