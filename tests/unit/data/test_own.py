"""The user's own dataset: described by a command, checked, prepared."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from run_entries import ROOT, sections, write_run
from small_datasets import Own

from kmax.cli.main import call
from kmax.data.dataset_file import load_dataset
from kmax.data.datasets import open_prepared
from kmax.data.download.download_dataset import download
from kmax.data.formats.coco_panoptic import read_map
from kmax.data.prepare.check_dataset import check
from kmax.data.prepare.prepare_dataset import prepare
from kmax.runs.families import families, load_run, select


def prepared(name: str) -> Path:
    assert check(name, workers=1).lines() == []
    download(name)
    return prepare(name, workers=1)


def segments_of(folder: Path, split: str = "train") -> dict[str, list[tuple[int, int, bool]]]:
    value = json.loads((folder / f"panoptic_{split}.json").read_text())
    return {
        str(entry["file_name"]): sorted(
            (s["category_id"], s["area"], bool(s["iscrowd"])) for s in entry["segments_info"]
        )
        for entry in value["annotations"]
    }


def test_own_panoptic_annotation_with_a_split_for_validation(project: Path, samples: Path) -> None:
    root = samples / "nuclei_panoptic_mini"
    words = ["data", "init", "cells"]
    for split in ("train", "val"):
        words += ["--images", f"{root}/{split}2017"]
        words += ["--panoptic-json", f"{root}/annotations/panoptic_{split}2017.json"]
    assert call(words) == 0
    source = load_dataset("cells").source
    assert source.root == str(root)
    assert source.splits == load_dataset("nuclei").source.splits
    run = load_run("cells-tiny")
    assert (run.data.image_size, run.model.num_clusters) == ([257, 257], 80)
    prepared("cells")
    assert [s.num_images for s in open_prepared("cells").splits.values()] == [50, 20]


def test_own_panoptic_annotation_of_one_split_holds_every_tenth_image_out(
    project: Path, samples: Path
) -> None:
    root = samples / "nuclei_panoptic_mini"
    arguments = [
        "--images",
        f"{root}/val2017",
        "--panoptic-json",
        f"{root}/annotations/panoptic_val2017.json",
    ]
    assert call(["data", "init", "cells", *arguments]) == 0
    folder = prepared("cells")
    train, val = segments_of(folder, "train"), segments_of(folder, "val")
    names = sorted([*train, *val])
    assert sorted(val) == names[::10]
    assert len(train) == 18


@pytest.fixture
def polygons(project: Path, tmp_path: Path) -> Path:
    """Two images: a square under a smaller one, and a crowd given as run-lengths."""
    root = tmp_path / "media"
    (root / "images").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((10, 12, 3), np.uint8)).save(root / "images" / name)
    square = {"image_id": 1, "category_id": 3, "segmentation": [[2, 2, 8, 2, 8, 8, 2, 8]], "area": 36}
    small = {"image_id": 1, "category_id": 5, "segmentation": [[3, 3, 5, 3, 5, 5, 3, 5]], "area": 4}
    crowd = {"image_id": 2, "category_id": 3, "segmentation": {"size": [10, 12], "counts": [0, 20, 100]}}
    box = {"bbox": [0, 0, 1, 1], "iscrowd": 0}
    value = {
        "images": [
            {"id": i, "file_name": name, "width": 12, "height": 10}
            for i, name in ((1, "a.png"), (2, "b.png"))
        ],
        "categories": [{"id": 3, "name": "square"}, {"id": 5, "name": "dot"}],
        "annotations": [
            {"id": 1, **small, **box},
            {"id": 2, **square, **box},
            {"id": 3, **crowd, **box, "area": 20, "iscrowd": 1},
        ],
    }
    (root / "instances.json").write_text(json.dumps(value))
    return root


def test_own_instance_annotation_is_painted_over_a_background(polygons: Path) -> None:
    words = ["--images", f"{polygons}/images", "--instances-json", f"{polygons}/instances.json"]
    assert call(["data", "init", "squares", *words]) == 0
    folder = prepared("squares")
    assert [(c.id, c.name, c.isthing) for c in open_prepared("squares").categories] == [
        (3, "square", True),
        (5, "dot", True),
        (6, "background", False),
    ]
    assert segments_of(folder, "val") == {"a.png": [(3, 32, False), (5, 4, False), (6, 84, False)]}
    assert segments_of(folder, "train") == {"b.png": [(3, 20, True), (6, 100, False)]}
    ids = read_map(folder / "panoptic_val/a.png")
    assert ids[3, 3] == 1
    assert ids[2, 2] == 2


def test_faulty_instance_annotation_is_told(polygons: Path) -> None:
    words = ["--images", f"{polygons}/images", "--instances-json", f"{polygons}/instances.json"]
    assert call(["data", "init", "squares", *words]) == 0
    path = polygons / "instances.json"
    value = json.loads(path.read_text())
    value["annotations"][0].update(category_id=77)
    value["annotations"][1].update(segmentation=[[1, 2, 3]])
    value["annotations"][2].update(image_id=9)
    value["annotations"].append(value["annotations"][0] | {"id": 4, "category_id": 3})
    value["annotations"][3].update(segmentation=[[0, 0, 1.0e12, 0, 1, 1]])
    path.write_text(json.dumps(value))
    found = check("squares", workers=1).lines()
    for part in (
        "unknown category 77",
        "'segmentation' is neither a run-length encoding nor polygons",
        "unknown image 9",
        "the polygon is far outside the image",
    ):
        assert sum(part in line for line in found) == 1, part  # though both splits read the JSON


def test_real_detections_are_the_panoptic_annotation_that_they_were_made_of(
    project: Path, samples: Path
) -> None:
    root = samples / "coco_panoptic_api_examples"
    init = ["data", "init"]
    images = ["--images", f"{root}/input_images"]
    words = [*images, "--instances-json", f"{root}/panoptic_coco_detection_format.json"]
    assert call([*init, "detections", *words]) == 0
    path = Path("params/datasets/detections.yaml")
    path.write_text(path.read_text().replace("background: background", "background: null"))
    words = [
        "--panoptic-json",
        f"{root}/panoptic_examples.json",
        "--panoptic-dir",
        f"{root}/panoptic_examples",
    ]
    assert call([*init, "panoptic", *images, *words]) == 0
    ours, expected = prepared("detections"), prepared("panoptic")
    for split in ("train", "val"):
        assert segments_of(ours, split) == segments_of(expected, split)


@pytest.fixture
def masks(project: Path, tmp_path: Path) -> Path:
    """Two images of ground (0), unlabelled pixels (255) two numbered things (4) beside an uncounted one."""
    root = tmp_path / "media"
    for name in ("images", "semantic", "numbers"):
        (root / name / "field").mkdir(parents=True)
    semantic, numbers = np.zeros((8, 10), np.uint8), np.zeros((8, 10), np.uint16)
    semantic[:2] = 255
    semantic[4:6] = 4
    numbers[4:6, :3], numbers[4:6, 3:5] = 1, 300
    for name in ("a", "b"):
        Image.fromarray(np.zeros((8, 10, 3), np.uint8)).save(root / f"images/field/{name}.jpg")
        Image.fromarray(semantic).save(root / f"semantic/field/{name}.png")
        Image.fromarray(numbers).save(root / f"numbers/field/{name}.png")
    return root


def test_own_masks_with_instance_numbers(masks: Path) -> None:
    words = ["--images", f"{masks}/images", "--semantic-dir", f"{masks}/semantic"]
    assert call(["data", "init", "field", *words, "--instance-dir", f"{masks}/numbers"]) == 0
    folder = prepared("field")
    found = [(c.id, c.name, c.isthing) for c in open_prepared("field").categories]
    assert found == [(4, "class_4", True), (0, "class_0", False)]
    expected = [(0, 40, False), (4, 4, False), (4, 6, False), (4, 10, True)]
    assert segments_of(folder, "train") == {"field/b.png": expected}
    assert load_run("field-tiny").data.image_size == [129, 129]


def test_own_masks_without_instance_numbers_are_stuff(masks: Path) -> None:
    assert (
        call(["data", "init", "field", "--images", f"{masks}/images", "--semantic-dir", f"{masks}/semantic"])
        == 0
    )
    assert segments_of(prepared("field"))["field/b.png"] == [(0, 40, False), (4, 20, False)]


def test_faulty_masks_are_told(masks: Path) -> None:
    assert (
        call(["data", "init", "field", "--images", f"{masks}/images", "--semantic-dir", f"{masks}/semantic"])
        == 0
    )
    Image.fromarray(np.full((8, 10), 9, np.uint8)).save(masks / "semantic/field/a.png")
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(masks / "semantic/field/b.png")
    shutil.copy(masks / "semantic/field/b.png", masks / "semantic/field/c.png")
    found = check("field", workers=1).lines()
    for part in (
        "field/a.png: values [9] are not category ids",
        "field/b.png: semantic PNG is 3x3, the image 10x8",
        "field/c.png: no image of this name",
    ):
        assert any(part in line for line in found), part


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images", "nowhere", "--semantic-dir", "nowhere"], "nowhere: folder of images not found"),
        (["--images", "{root}/images"], "give one of --panoptic-json, --instances-json and --semantic-dir"),
        (
            ["--images", "{root}/images", "--panoptic-json", "no.json"],
            "no: folder of panoptic PNGs not found",
        ),
        (["--semantic-dir", "{root}/semantic"], "--images: the folder of images is missing"),
        (["--images", "{root}/images", "--semantic-dir", "{root}/images"], "contains no semantic PNGs"),
    ],
)
def test_what_cannot_be_described_is_told_in_one_line(
    masks: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert call(["data", "init", "field", *(word.format(root=masks) for word in words)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not Path("params/datasets/field.yaml").exists()


def test_a_json_whose_images_are_all_faulty_is_told_image_by_image(
    own: Own, capsys: pytest.CaptureFixture[str]
) -> None:
    own.edit(lambda value: [image.update(width="wide") for image in value["images"]])
    words = ["--images", str(own.image().parent), "--panoptic-json", str(own.json())]
    assert call(["data", "init", "field", *words]) == 2
    faults = capsys.readouterr().err.splitlines()
    assert sum("'width' has the wrong type" in line for line in faults) == 3


def test_what_is_there_is_not_overwritten(masks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "init", "field", "--images", f"{masks}/images", "--semantic-dir", f"{masks}/semantic"]
    assert call(words) == 0
    before = Path("params/datasets/field.yaml").read_text()
    assert call(words) == 2
    assert "params/datasets/field.yaml: already exists" in capsys.readouterr().err
    assert Path("params/datasets/field.yaml").read_text() == before


def test_a_name_whose_run_exists_is_refused(masks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(Path(), "field-tiny", sections("shapes-tiny"), family="mine")
    words = ["data", "init", "field", "--images", f"{masks}/images", "--semantic-dir", f"{masks}/semantic"]
    assert call(words) == 2
    assert "run 'field-tiny' already exists" in capsys.readouterr().err
    assert not Path("params/datasets/field.yaml").exists()


def test_the_family_of_a_dataset_gets_its_pipeline_where_dvc_is_used(masks: Path) -> None:
    words = ["data", "init", "field", "--images", f"{masks}/images", "--semantic-dir", f"{masks}/semantic"]
    shutil.copytree(ROOT / "workflow", "workflow")
    first = families()
    assert call(words) == 0
    assert families().keys() - first.keys() == {"field"}
    assert not families()["field"].default
    assert "field-tiny: {dataset: field}" in Path("workflow/pipelines/field/dvc.yaml").read_text()


def test_the_first_family_of_a_project_is_its_default(
    masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new").mkdir()
    monkeypatch.chdir(tmp_path / "new")
    words = ["data", "init", "field", "--images", f"{masks}/images", "--semantic-dir", f"{masks}/semantic"]
    assert call(words) == 0
    assert select() == ["field-tiny"]
    assert not Path("workflow").exists()


def test_below_the_data_root_no_path_of_this_machine_is_written(
    masks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KMAX_DATA_ROOT", str(masks.parent))
    words = ["data", "init", "field", "--images", f"{masks}/images", "--semantic-dir", f"{masks}/semantic"]
    assert call(words) == 0
    source = yaml.safe_load(Path("params/datasets/field.yaml").read_text())["source"]
    assert (source["root"], source["folder"]) == (None, "media")
