"""Archives for test servers: complete, named as the servers expect, or refused before anything is written."""

import json
import shutil
import zipfile
from functools import partial
from pathlib import Path

import pytest
from official_runs import NAMES, official_run
from PIL import Image

from kmax import paths
from kmax.data.datasets import ImageFolder, UnannotatedImages
from kmax.errors import InputError
from kmax.evaluation.cityscapes.cityscapes_ap import evaluate_files as cityscapes_ap
from kmax.evaluation.cityscapes.cityscapes_miou import evaluate_files as cityscapes_miou
from kmax.evaluation.coco_ap import evaluate_files as coco_ap
from kmax.evaluation.panoptic.panoptic_files import PanopticArguments
from kmax.evaluation.panoptic.pq import evaluate_files as pq
from kmax.evaluation.submission.submission_archives import server_split, submit_cityscapes, submit_coco

FOLDER = paths.predictions("small")


def unpacked(archive: Path, folder: Path) -> list[str]:
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        opened.extractall(folder)
        return sorted(opened.namelist())


def test_panoptic_archive_of_coco_has_the_servers_format(tmp_path: Path, monkeypatch) -> None:
    run = official_run("coco", tmp_path, monkeypatch)
    name = submit_coco(run, Path("out.zip"), "panoptic", "my-net")
    assert name == "panoptic_val2017_my-net_results.zip"
    stem = Path(name).stem
    names = unpacked(Path("out.zip"), Path("un"))
    assert names == sorted([f"{stem}.json", *(f"{stem}/{Path(n).stem}.png" for n in NAMES["coco"])])
    result = pq(
        PanopticArguments(Path("truth.json"), Path("truth"), Path(f"un/{stem}.json"), Path("un") / stem)
    )
    assert result.group("all")["pq"] == 1.0
    before = Path("out.zip").read_bytes()
    submit_coco(run, Path("out.zip"), "panoptic", "my-net")
    assert Path("out.zip").read_bytes() == before


def test_splits_have_the_names_of_the_server_of_coco() -> None:
    folder, lists = Path("test2017"), ("image_info_test-dev2017.json", "image_info_test2017.json")
    listed = [UnannotatedImages("test", folder, Path("annotations") / name) for name in lists]
    assert [server_split(images) for images in listed] == ["test-dev2017", "test-challenge2017"]
    assert server_split(ImageFolder("val", Path("media/val2017"))) == "val2017"


def test_detections_of_coco_score_as_the_files_of_the_run(tmp_path: Path, monkeypatch) -> None:
    name = submit_coco(official_run("coco", tmp_path, monkeypatch), Path("out.zip"), "instances", None)
    assert unpacked(Path("out.zip"), Path("un")) == [name.replace(".zip", ".json")]
    assert name == "detections_val2017_small_results.zip"
    truth = Path("root/coco/annotations/instances_val2017.json")
    ours, theirs = (coco_ap(truth, p) for p in (FOLDER / "instances.json", Path("un") / f"{name[:-4]}.json"))
    assert ours.to_json()["ap"] == theirs.to_json()["ap"]


def test_archives_of_cityscapes_score_one(tmp_path: Path, monkeypatch) -> None:
    run = official_run("cityscapes", tmp_path, monkeypatch)
    for task in ("panoptic", "instances", "semantic"):
        submit_cityscapes(run, Path(f"{task}.zip"), task)
        unpacked(Path(f"{task}.zip"), Path(task))
    own = Path("root/cityscapes/gtFine/val")
    assert cityscapes_ap(own, Path("instances")).to_json()["ap"] == 1.0
    assert cityscapes_miou(own, Path("semantic")).to_json()["miou"] == 1.0
    name = "panoptic/cityscapes_panoptic_val"
    assert (
        pq(PanopticArguments(Path("truth.json"), Path("truth"), Path(f"{name}.json"), Path(name))).group(
            "all"
        )["pq"]
        == 1.0
    )


@pytest.mark.parametrize(
    ("dataset", "task", "damage", "message"),
    [
        ("coco", "panoptic", "missing entry", r"image 285 .* has no prediction"),
        ("coco", "panoptic", "unknown image", "1 predictions for images that are not in coco/val, such as 7"),
        (
            "coco",
            "panoptic",
            "panoptic/000000000285.png",
            "image 285: panoptic PNG cannot be read: truncated",
        ),
        ("coco", "panoptic", "other ids", "image 139: segment 999 is only in the JSON"),
        ("coco", "instances", "instances.json", "cannot be read as JSON"),
        (
            "cityscapes",
            "semantic",
            f"semantic/{NAMES['cityscapes'][0]}",
            "label PNG cannot be read: truncated",
        ),
        ("cityscapes", "semantic", "size", "90x40 pixels, but the image has 96x48"),
        ("cityscapes", "instances", "no folder", "not found; it is written only if predict.instances"),
        ("cityscapes", "instances", "score", "confidence nan is not a finite number"),
    ],
)
def test_predictions_that_a_server_would_reject_are_refused(
    tmp_path: Path, monkeypatch, dataset: str, task: str, damage: str, message: str
) -> None:
    run = official_run(dataset, tmp_path, monkeypatch)
    content = json.loads((FOLDER / "panoptic.json").read_text())
    match damage:
        case "missing entry":
            content["annotations"].pop()
        case "unknown image":
            content["annotations"].append(content["annotations"][0] | {"image_id": 7})
        case "other ids":
            content["annotations"][0]["segments_info"][0]["id"] = 999
        case "size":
            Image.new("L", (90, 40), 7).save(FOLDER / "semantic" / NAMES["cityscapes"][0])
        case "no folder":
            shutil.rmtree(FOLDER / "instances")
        case "score":
            text = next((FOLDER / "instances").rglob("*.txt"))
            text.write_text(" ".join([*text.read_text().split()[:2], "nan"]))
        case _:
            path = FOLDER / damage
            path.write_bytes(path.read_bytes()[:-15])
    (FOLDER / "panoptic.json").write_text(json.dumps(content))
    submit = partial(submit_coco, algorithm=None) if dataset == "coco" else submit_cityscapes
    with pytest.raises(InputError, match=message):
        submit(run, Path("out.zip"), task)
    assert not Path("out.zip").exists()


def test_other_categories_and_parts_of_a_split_are_refused(tmp_path: Path, monkeypatch) -> None:
    run = official_run("coco", tmp_path, monkeypatch)
    with pytest.raises(InputError, match="does not have the categories of Cityscapes"):
        submit_cityscapes(run, Path("out.zip"), "panoptic")
    with pytest.raises(InputError, match="letters, digits"):
        submit_coco(run, Path("out.zip"), "panoptic", "my net")
    part = run.model_copy(update={"data": run.data.model_copy(update={"val_images": ["a"]})})
    with pytest.raises(InputError, match="expects predictions for the whole split"):
        submit_coco(part, Path("out.zip"), "panoptic", None)
