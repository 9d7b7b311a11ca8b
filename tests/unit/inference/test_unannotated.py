"""Images of test servers, which have no annotation: predicted where they lie, and packed for upload."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from run_entries import sections, write_run

from kmax import paths
from kmax.cli.main import call
from kmax.config import Category
from kmax.data.dataset_file import load_dataset
from kmax.data.datasets import open_prepared
from kmax.data.download.download_dataset import download
from kmax.data.formats.coco_panoptic import write_map
from kmax.data.image_list import val_images
from kmax.data.loading.loader import val_batches
from kmax.data.prepare.prepare_dataset import prepare
from kmax.errors import InputError
from kmax.inference.prediction_stage import predict_run
from kmax.model.create import create_model
from kmax.model.io import save_model
from kmax.runs.families import load_run
from kmax.runs.identity import identify

ROOT = Path(__file__).resolve().parents[3]
HEIGHT, WIDTH = 40, 56
NAMES = {
    "coco": ["000000000007.jpg", "000000000009.jpg", "000000000016.jpg"],
    "cityscapes": [f"{city}/{city}_000000_{frame}_leftImg8bit.png"
                   for city, frame in (("berlin", "000019"), ("berlin", "000020"), ("mainz", "000019"))],
}  # fmt: skip
SPLIT = {"coco": "test-dev", "cityscapes": "test"}
IMAGES = {
    "coco": ("media/coco/val2017", "media/coco/test2017"),
    "cityscapes": ("media/cityscapes/leftImg8bit/val", "media/cityscapes/leftImg8bit/test"),
}
IMAGE_INFO = Path("media/coco/annotations/image_info_test-dev2017.json")


def write_raw(dataset: str) -> None:
    """Three tiny images twice: as the annotated split, and as the one without annotation."""
    rng = np.random.default_rng(0)
    listed, annotations = [], []
    for number, name in enumerate(NAMES[dataset]):
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH + number, 3), dtype=np.uint8)
        for folder in IMAGES[dataset]:
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(Path(folder) / name)
        if dataset == "cityscapes":
            labels = Path("media/cityscapes/gtFine/val") / name.replace("_leftImg8bit", "_gtFine_instanceIds")
            labels.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full(pixels.shape[:2], 7, np.uint8)).save(labels)
            continue
        write_map(
            Path("media/coco/annotations/panoptic_val2017") / f"{number}.png", np.ones(pixels.shape[:2], int)
        )
        height, width = pixels.shape[:2]
        listed.append({"id": number + 5, "file_name": name, "height": height, "width": width})
        segment = {
            "id": 1,
            "category_id": 1,
            "area": height * width,
            "bbox": [0, 0, width, height],
            "iscrowd": 0,
        }
        annotations.append({"image_id": number + 5, "file_name": f"{number}.png", "segments_info": [segment]})
    if dataset == "coco":
        categories = yaml.safe_load(Path("params/datasets/coco.yaml").read_text())["categories"]
        panoptic = {"images": listed, "annotations": annotations,
                    "categories": [c | {"isthing": int(c["isthing"])} for c in categories]}  # fmt: skip
        Path("media/coco/annotations/panoptic_val2017.json").write_text(json.dumps(panoptic))
        # COCO's own list says of its categories no more than this.
        info = {"info": {}, "images": listed, "categories": [{"id": 1, "name": "person"}]}
        IMAGE_INFO.write_text(json.dumps(info))


def make_ready(dataset: str, folder: Path) -> None:
    """A project in the working folder whose run `small`, with random weights, can be predicted."""
    shutil.copytree(ROOT / "params", folder / "params")
    write_raw(dataset)
    path = Path(f"params/datasets/{dataset}.yaml")
    described = yaml.safe_load(path.read_text())
    described["source"] |= {"files": [], "splits": {"val": described["source"]["splits"]["val"]}}
    path.write_text(yaml.safe_dump(described))
    content = sections("shapes-smoke")
    content["data"] |= {"dataset": dataset, "image_size": [65, 65]}
    content["model"]["flavour"] = "torch"  # whose instances are the best pairs of cluster and class
    # Random weights are never sure of anything.
    content["predict"] |= dict.fromkeys(
        ["pixel_threshold", "class_threshold_thing", "class_threshold_stuff", "overlap_threshold"], 0.0
    )
    content["predict"] |= {"batch_size": 2, "pictures": 1, "instances": dataset}
    content["evaluate"]["ap"] = dataset
    write_run(Path(), "small", content)
    download(dataset)
    prepare(dataset, workers=1)
    run = load_run("small")
    torch.manual_seed(0)
    categories = [Category(**category) for category in described["categories"]]
    model = create_model(**run.model.model_dump(), num_classes=len(categories), image_size=(65, 65))
    identity = identify(run)
    told = {"digest": identity.digest, "data_digest": identity.data_digest}
    save_model(model, paths.model("small"), categories, **told)


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each dataset a project in which both of its splits are predicted."""
    folders = {}
    for dataset, split in SPLIT.items():
        folders[dataset] = tmp_path_factory.mktemp(dataset)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KMAX_TRACKING", "off")
            enter(folders[dataset], patch)
            make_ready(dataset, folders[dataset])
            assert call(["predict", "small"]) == 0
            assert call(["predict", "small", "--split", split]) == 0
    return folders


def enter(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.chdir(folder)
    patch.setenv("KMAX_DATA_ROOT", str(folder / "media"))


@pytest.fixture
def coco(predicted: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of COCO's project that a test may damage, as the working folder."""
    shutil.copytree(predicted["coco"], tmp_path / "coco")
    enter(tmp_path / "coco", monkeypatch)


@pytest.fixture
def cityscapes(predicted: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `coco`."""
    shutil.copytree(predicted["cityscapes"], tmp_path / "cs")
    enter(tmp_path / "cs", monkeypatch)


def packed(dataset: str, task: str, split: str | None) -> dict[str, bytes]:
    """Names and content of the archive that the command writes."""
    words = ["submission", dataset, "small", "--task", task, "--out", "out.zip"]
    assert call([*words, *(["--split", split] if split else [])]) == 0
    with zipfile.ZipFile("out.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize(
    ("dataset", "task"),
    [
        ("coco", "panoptic"),
        ("coco", "instances"),
        ("cityscapes", "panoptic"),
        ("cityscapes", "instances"),
        ("cityscapes", "semantic"),
    ],
)
def test_archives_are_those_of_the_same_images_with_annotation(
    predicted: dict[str, Path], monkeypatch: pytest.MonkeyPatch, dataset: str, task: str
) -> None:
    enter(predicted[dataset], monkeypatch)
    with_annotation, without = (packed(dataset, task, split) for split in (None, SPLIT[dataset]))
    old, new = ("val2017", "test-dev2017") if dataset == "coco" else ("panoptic_val", "panoptic_test")
    assert {name.replace(old, new): content for name, content in with_annotation.items()} == without
    assert sum(len(content) for content in without.values()) > 100
    if task != "semantic" and dataset == "coco":
        assert f"{'panoptic' if task == 'panoptic' else 'detections'}_{new}_small_results.json" in without


@pytest.mark.parametrize("dataset", ["coco", "cityscapes"])
def test_predictions_without_annotation_are_in_a_separate_folder_and_show_none(
    predicted: dict[str, Path], monkeypatch: pytest.MonkeyPatch, dataset: str
) -> None:
    enter(predicted[dataset], monkeypatch)
    own, other = paths.predictions("small"), paths.predictions("small", SPLIT[dataset])
    drawn = [
        {path.name for path in next((folder / "pictures").iterdir()).iterdir()} for folder in (own, other)
    ]
    assert drawn[0] - drawn[1] == {"ground_truth.png"}
    sizes = [
        [
            (i["file_name"], i["width"], i["height"])
            for i in json.loads((f / "panoptic.json").read_text())["images"]
        ]
        for f in (own, other)
    ]
    assert sizes[0] == sizes[1] == [(n, WIDTH + i, HEIGHT) for i, n in enumerate(NAMES[dataset])]
    assert paths.predictions_provenance("small", SPLIT[dataset]).read_text() == (
        paths.predictions_provenance("small").read_text()
    )


def listed(split: str = "test-dev", dataset: str = "coco") -> list[str]:
    images = val_images(open_prepared(dataset), load_run("small").on_split(split).data)
    return [image.file_name for image in images]


def change_list(change: Callable[[list[dict[str, Any]]], Any]) -> None:
    content = json.loads(IMAGE_INFO.read_text())
    change(content["images"])
    IMAGE_INFO.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images: images[0].update(file_name="../val2017/a.jpg"), "leaves the image folder"),
        (lambda images: images[0].update(file_name="/etc/a.jpg"), "leaves the image folder"),
        (lambda images: images.append(images[0] | {"id": 77}), "duplicate image file 000000000007.jpg"),
        (lambda images: images[1].update(id=5), "duplicate image id 5"),
        (lambda images: images[1].pop("width"), r"images\[1\]: 'width' is missing"),
        (lambda images: images.clear(), "image_info_test-dev2017.json: no images"),
    ],
)
def test_faulty_lists_of_images_are_refused(coco: None, change: Any, message: str) -> None:
    change_list(change)
    with pytest.raises(InputError, match=message) as raised:
        listed()
    assert len(raised.value.faults) == 1


def test_missing_files_give_a_one_line_error(coco: None, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree("media/coco/test2017")
    shutil.rmtree("runs")  # finished shards would be published again
    assert call(["predict", "small", "--split", "test-dev"]) == 2
    assert call(["submission", "coco", "small", "--split", "test-dev", "--out", "out.zip"]) == 0
    IMAGE_INFO.unlink()
    for words in (["predict", "small"], ["submission", "coco", "small", "--out", "other.zip"]):
        assert call([*words, "--split", "test-dev"]) == 2
        assert call([*words, "--split", "../../media"]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("kmax: ")]
    assert "test2017: folder of images not found" in told[0]
    unknown = "unknown split '../../media'; known: test, test-dev, val"
    assert [("list of images not found" in line, unknown in line) for line in told[1:]] == [
        (True, False),
        (False, True),
    ] * 2
    assert not Path("other.zip").exists()


def test_files_of_other_sizes_than_listed_are_refused(coco: None) -> None:
    change_list(lambda images: images[1].update(width=WIDTH))
    run = load_run("small").on_split("test-dev")
    prepared = open_prepared("coco")
    images = val_images(prepared, run.data)
    with pytest.raises(InputError, match=r"000000000009\.jpg: image is 57x40, listed as 56x40"):
        list(val_batches(prepared, run.data, images, batch_size=2))


def test_an_archive_wants_the_predictions_of_just_this_split(coco: None, capsys) -> None:
    change_list(lambda images: images.append(images[0] | {"id": 77, "file_name": "new.jpg"}))
    words = ["submission", "coco", "small", "--split", "test-dev", "--out", "out.zip"]
    assert call(words) == 2
    assert "image 77 (new.jpg) of coco/test-dev has no prediction" in capsys.readouterr().err
    assert call(["predict", "small", "--split", "test-dev"]) == 2  # finished shards are of the list of before
    assert "new.jpg: image not found" in capsys.readouterr().err
    shutil.rmtree(paths.predictions("small", "test-dev"))
    assert call(words) == 2
    assert "run: kmax predict small --split test-dev" in capsys.readouterr().err


def test_folders_of_images_are_listed_by_their_contents(cityscapes: None) -> None:
    folder = Path(IMAGES["cityscapes"][1])
    (folder / "berlin/.hidden.png").write_bytes(b"")
    (folder / "berlin/notes.txt").write_bytes(b"")
    assert listed("test", "cityscapes") == NAMES["cityscapes"]
    (folder / "berlin/half.png").write_bytes(next(folder.rglob("*.png")).read_bytes()[:20])
    shutil.copy(folder / NAMES["cityscapes"][0], (folder / NAMES["cityscapes"][0]).with_suffix(".webp"))
    with pytest.raises(InputError) as raised:
        listed("test", "cityscapes")
    told = [
        "berlin_000000_000019_leftImg8bit.webp: its predictions would overwrite",
        "half.png: image cannot be",
    ]
    assert len(raised.value.faults) == 2
    assert all(part in fault for part, fault in zip(told, sorted(raised.value.faults), strict=True))


def test_runs_are_evaluated_on_annotated_splits_only(coco: None, capsys: pytest.CaptureFixture[str]) -> None:
    run = load_run("small").on_split("test-dev")
    with pytest.raises(InputError, match="unknown split 'test-dev'; known: val"):
        predict_run(run, Path("state"), {})
    assert call(["evaluate", "small", "--split", "test-dev"]) == 2
    assert "No such option" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "cityscapes",
            {"val": {"images": "x", "image_info": None}},
            "unannotated: val: an annotated split",
        ),
        ("shapes", {"test": {"images": "x", "image_info": None}}, "a generated dataset has no raw files"),
        ("cityscapes", {"../up": {"images": "x", "image_info": None}}, "unannotated"),
    ],
)
def test_dataset_files_that_cannot_mean_it_are_refused(
    cityscapes: None, name: str, change: Any, message: str
) -> None:
    path = Path(f"params/datasets/{name}.yaml")
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"unannotated": change}))
    with pytest.raises(InputError, match=message):
        load_dataset(name)
