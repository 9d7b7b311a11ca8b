"""The official conversions, against what the originals made of the same files."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from kmax.cli.main import call
from kmax.data.dataset_file import load_dataset
from kmax.data.datasets import open_prepared
from kmax.data.download.download_dataset import download
from kmax.data.formats.coco_panoptic import read_map
from kmax.data.formats.coco_panoptic_json import read_panoptic_json
from kmax.data.image_source import ImageSource
from kmax.data.prepare.check_dataset import check
from kmax.data.prepare.prepare_dataset import prepare


def place(name: str, root: Path) -> None:
    """Have the raw files of a dataset lie below `root`, with nothing to fetch."""
    path = Path(f"params/datasets/{name}.yaml")
    value = yaml.safe_load(path.read_text())
    value["source"].update(root=str(root), files=[])
    path.write_text(yaml.safe_dump(value, sort_keys=False))


def prepared(name: str, root: Path) -> Path:
    """Download (that is, find) and prepare a dataset whose raw files lie below `root`."""
    place(name, root)
    download(name)
    return prepare(name, workers=1)


def partition(ids: np.ndarray, category_of: dict[int, tuple[int, bool]]) -> set:
    """The segments as sets of pixels with their category, whatever their ids."""
    return {
        (category_of[key], hashlib.sha256((ids == key).tobytes()).hexdigest())
        for key in np.unique(ids).tolist()
        if key != 0
    }


def annotations_of(path: Path) -> dict[str, dict]:
    return {entry["image_id"]: entry for entry in json.loads(path.read_text())["annotations"]}


def by_area(annotation: dict) -> list:
    return sorted((s["category_id"], s["area"], s["bbox"], s["iscrowd"]) for s in annotation["segments_info"])


@pytest.mark.parametrize("split", ["train", "val"])
def test_cityscapes_is_that_of_the_official_scripts(project: Path, samples: Path, split: str) -> None:
    root = samples / "cityscapes_mini"
    folder = prepared("cityscapes", root)
    official = root / f"gtFine/cityscapes_panoptic_{split}.json"
    expected, ours = annotations_of(official), annotations_of(folder / f"panoptic_{split}.json")
    assert ours == expected
    for entry in expected.values():
        png = root / f"gtFine/cityscapes_panoptic_{split}" / entry["file_name"]
        np.testing.assert_array_equal(
            read_map(folder / f"panoptic_{split}" / entry["file_name"]), read_map(png)
        )
    for image in read_panoptic_json(folder / f"panoptic_{split}.json").images:
        assert (root / f"leftImg8bit/{split}" / image.file_name).is_file()
        assert Path(image.file_name).name == f"{image.id}_leftImg8bit.png"
    crowds = [s for entry in expected.values() for s in entry["segments_info"] if s["iscrowd"]]
    assert crowds, "the sample has groups"


def test_a_real_frame_of_cityscapes_is_that_of_the_official_scripts(
    project: Path, samples: Path, tmp_path: Path
) -> None:
    root = samples / "cityscapes_real_frame"
    path = Path("params/datasets/cityscapes.yaml")
    value = yaml.safe_load(path.read_text())
    del value["source"]["splits"]["train"]
    path.write_text(yaml.safe_dump(value))
    folder = prepared("cityscapes", root)
    expected = annotations_of(root / "gtFine/cityscapes_panoptic_val.json")
    assert annotations_of(folder / "panoptic_val.json") == expected
    for entry in expected.values():
        png = root / "gtFine/cityscapes_panoptic_val" / entry["file_name"]
        np.testing.assert_array_equal(read_map(folder / "panoptic_val" / entry["file_name"]), read_map(png))


def test_ade20k_is_that_of_the_recipe_of_mask2former(project: Path, samples: Path, golden: Path) -> None:
    folder = prepared("ade20k", samples / "ade20k_mini/ADEChallengeData2016")
    recorded = golden / "metrics/prepare/ade20k_panoptic"
    for split in ("train", "val"):
        expected = annotations_of(recorded / f"ade20k_panoptic_{split}.json")
        ours = annotations_of(folder / f"panoptic_{split}.json")
        assert ours.keys() == expected.keys()
        for image_id, entry in expected.items():
            assert by_area(ours[image_id]) == by_area(entry)
            both = []
            for found, pngs in (
                (entry, recorded / f"ade20k_panoptic_{split}"),
                (ours[image_id], folder / f"panoptic_{split}"),
            ):
                category_of = {
                    s["id"]: (s["category_id"], bool(s["iscrowd"])) for s in found["segments_info"]
                }
                both.append(partition(read_map(pngs / found["file_name"]), category_of))
            assert both[0] == both[1]
    facts = json.loads((golden / "metrics/facts/ade20k_instance_mapping.json").read_text())
    categories = open_prepared("ade20k").categories
    assert [c.id for c in categories] == list(range(150))
    assert {c.id for c in categories if c.isthing} == {f["contiguous_semantic_id"] for f in facts}


def test_semantic_maps_of_coco_are_those_of_detectron2(
    project: Path, samples: Path, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = json.loads((golden / "metrics/prepare/coco_semantic_sha256.json").read_text())["files"]
    expected = {Path(name).stem: entry["uint8_sha256"] for name, entry in recorded.items()}
    prepared("coco_mini", samples / "coco_panoptic_mini")
    dataset = open_prepared("coco_mini")
    order = {category.id: i for i, category in enumerate(sorted(dataset.categories, key=lambda c: c.id))}
    to_rank = np.array([order[category.id] for category in dataset.categories] + [255], np.uint8)
    compared = 0
    for split in ("train", "val"):
        source = ImageSource(dataset, split, None, "test", cache_bytes=0)
        for i in range(0, len(source), 5):
            sample = source[i]
            classes = np.append(sample.labels.classes, len(to_rank) - 1)
            semantic = to_rank[classes[sample.owner.astype(int) - 1]]
            found = expected[Path(sample.image.file_name).stem]
            assert hashlib.sha256(semantic.tobytes()).hexdigest() == found
            compared += 1
    assert compared == 32


def test_a_panoptic_annotation_of_train_ids_is_kept(project: Path, samples: Path, tmp_path: Path) -> None:
    """Of the original's tests; its JSON has annotations alone."""
    root = samples / "deeplab2_cityscapes_dummy"
    value = json.loads((root / "gtFine/cityscapes_panoptic_dummy_trainId.json").read_text())
    (entry,) = value["annotations"]
    with Image.open(root / "leftImg8bit/dummy_000000_000000_leftImg8bit.png") as image:
        width, height = image.size
    listed = {"id": entry["image_id"], "file_name": "dummy_000000_000000_leftImg8bit.png"}
    value["images"] = [listed | {"width": width, "height": height}]
    classes = load_dataset("cityscapes").categories
    value["categories"] = [
        {"id": i, "name": category.name, "isthing": int(category.isthing)}
        for i, category in enumerate(classes)
    ]
    (tmp_path / "dummy.json").write_text(json.dumps(value))
    words = ["--images", f"{root}/leftImg8bit", "--panoptic-json", f"{tmp_path}/dummy.json"]
    words += ["--panoptic-dir", f"{root}/gtFine/cityscapes_panoptic_dummy_trainId"]
    assert call(["data", "init", "dummy", *words]) == 0
    assert check("dummy", workers=1).lines() == []
    path = Path("params/datasets/dummy.yaml")
    path.write_text(path.read_text().replace("  holdout: 10\n", ""))
    download("dummy")
    folder = prepare("dummy", workers=1)
    (ours,) = json.loads((folder / "panoptic_train.json").read_text())["annotations"]
    ids = read_map(folder / "panoptic_train" / entry["file_name"])
    for before, after in zip(entry["segments_info"], ours["segments_info"], strict=True):
        assert before.items() <= after.items()
        x, y, width, height = after["bbox"]
        assert (ids[y : y + height, x : x + width] == after["id"]).sum() == after["area"]


def test_polygons_of_a_real_image_are_its_panoptic_segments_of_things(
    project: Path, samples: Path, tmp_path: Path
) -> None:
    root = samples / "coco_000000039769"
    things = {17: "cat", 75: "remote"}
    regions = json.loads((root / "instances.json").read_text())
    names = {entry["category_id"]: things.get(entry["category_id"], "other") for entry in regions}
    value = {
        "images": [{"id": 39769, "file_name": "000000039769.png", "width": 640, "height": 480}],
        "categories": [{"id": key, "name": name} for key, name in names.items()],
        "annotations": regions,
    }
    (tmp_path / "instances.json").write_text(json.dumps(value))
    words = ["--images", str(root), "--instances-json", f"{tmp_path}/instances.json"]
    assert call(["data", "init", "cats", *words]) == 0
    assert check("cats", workers=1).lines() == []


@pytest.fixture
def ade(project: Path, samples: Path, tmp_path: Path) -> Path:
    """The sample of ADE20K, where tests may damage it."""
    root = tmp_path / "ADEChallengeData2016"
    shutil.copytree(samples / "ade20k_mini/ADEChallengeData2016", root)
    place("ade20k", root)
    return root


def test_faults_of_ade20k_are_reported(ade: Path) -> None:
    assert check("ade20k", workers=1).lines() == []
    (ade / "images/validation/ADE_val_00000003.jpg").unlink()
    (ade / "annotations_instance/validation/ADE_val_00000001.png").unlink()
    path = ade / "annotations/training/ADE_train_00016869.png"
    semantic = np.array(Image.open(path))
    semantic[0, 0] = 151
    Image.fromarray(semantic).save(path)
    path = ade / "annotations_instance/training/ADE_train_00016900.png"
    instances = np.array(Image.open(path))
    instances[:2, :2], instances[2:4, :2] = (1, 250, 0), (2, 250, 0)
    instances[4:6, :2] = (101, 251, 0)
    Image.fromarray(instances).save(path)
    mapping = ade / "categoryMapping.txt"
    mapping.write_text(mapping.read_text().replace("\n1\t\t8\t", "\n1\t\t9\t"))
    found = check("ade20k", workers=1).lines()
    for part in (
        "ADE_val_00000003.jpg: image not found",
        "ADE_val_00000001.png: instance PNG not found",
        "ADE_train_00016869.png: class 151 is not in 1..150",
        "ADE_train_00016900.png: instance 250 has the classes [1, 2], expected one in 1..100",
        "ADE_train_00016900.png: instance 251 has the classes [101], expected one in 1..100",
        "categoryMapping.txt: instance class to class: 2 entries disagree",
    ):
        assert any(part in line for line in found), part
    assert len(found) == 6


def test_faults_of_cityscapes_are_reported(project: Path, samples: Path, tmp_path: Path) -> None:
    root = tmp_path / "cityscapes"
    shutil.copytree(samples / "cityscapes_real_frame", root)
    place("cityscapes", root)
    (labels,) = root.glob("gtFine/val/*/*_instanceIds.png")
    ids = np.array(Image.open(labels))
    ids[0, 0], ids[0, 1] = 34, 40007
    Image.fromarray(ids).save(labels)
    shutil.copy(labels, labels.with_name("frankfurt_000000_000295_gtFine_instanceIds.png"))
    found = check("cityscapes", workers=1).lines()
    assert len(found) == 3
    for part in (
        "leftImg8bit/train: folder of images not found",
        "frankfurt_000000_000294_gtFine_instanceIds.png: labels [34, 40] are not in Cityscapes (0..33)",
        "frankfurt_000000_000295_leftImg8bit.png: image not found",
    ):
        assert any(part in line for line in found), found
