from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_datasets import Own, few_shapes

from kmax.data.check import check
from kmax.data.download import download
from kmax.data.panoptic import read_map, write_map
from kmax.data.prepare import prepare
from kmax.errors import InputError


def test_a_sound_dataset_has_no_faults(own: Own) -> None:
    assert check("own") == []


def test_a_prepared_generated_dataset_has_no_faults(project: Path) -> None:
    few_shapes(train=3, val=2)
    download("few")
    folder = prepare("few")
    assert check("few") == []
    (folder / "images_val" / "000001.png").unlink()
    (fault,) = check("few")
    assert fault.endswith("images_val/000001.png: image not found")


def test_all_faults_are_told_file_by_file(own: Own) -> None:
    download("own")
    own.image(0).unlink()
    own.image(1).write_bytes(own.image(1).read_bytes()[:700])
    ids = read_map(own.png(2))
    ids[0, 0] = 99
    ids[ids == 70000] = 7
    write_map(own.png(2), ids)
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(own.png(0))

    def change(value: dict) -> None:
        value["annotations"][1]["segments_info"][0]["area"] += 1
        value["annotations"][1]["segments_info"][1]["category_id"] = 555
        value["images"][1]["width"] += 1
        value["categories"].append({"id": 8, "name": "extra", "isthing": 1})

    own.edit(change)

    def empty(value: dict) -> None:
        value["annotations"][0]["segments_info"] = []
        value["images"].append(value["images"][1])

    own.edit(empty, "val")
    faults = "\n".join(check("own"))
    for part in (
        "images/train0.png: image not found",
        "images/train1.png: image cannot be read",
        "train/train0.png: panoptic PNG is not 8-bit RGB",
        "train/train1.png: panoptic PNG is 29x21, the JSON says 30x21",
        "train/train1.png: segment 7 has 433 pixels, the JSON says 434",
        "image 1: segment 70000: unknown category 555",
        "train/train2.png: ids 99 are in the PNG but not in the JSON",
        "train/train2.png: segment 70000 is in the JSON but not in the PNG",
        "train/train2.png: segment 7 has",
        "val.json: category 8 of",
        "val/val0.png: image 0 has no segments",
        "val.json: images[3]: image id 1 occurs twice",
    ):
        assert part in faults, part
    with pytest.raises(InputError) as caught:
        prepare("own")
    assert set(check("own")) <= set(caught.value.faults)
    assert not Path("data/prepared/own").exists()


def test_a_missing_json_does_not_hide_the_other_split(own: Own) -> None:
    own.json("train").unlink()
    (own.root / "images" / "val1.png").unlink()
    faults = check("own")
    assert any("train.json: panoptic JSON not found" in fault for fault in faults)
    assert any("val1.png: image not found" in fault for fault in faults)


def test_a_dataset_without_images_is_a_fault(own: Own) -> None:
    own.edit(lambda value: value.update(images=[], annotations=[]))
    assert any("no annotated images" in fault for fault in check("own"))


def test_categories_must_agree_with_the_dataset_file(own: Own) -> None:
    path = Path("params/datasets/own.yaml")
    listed = "[{id: 3, name: crate, isthing: true, color: [1, 2, 3]}]"
    path.write_text(path.read_text().replace("categories: null", f"categories: {listed}"))
    faults = "\n".join(check("own"))
    assert "category 20 is not in params/datasets/own.yaml" in faults
    assert "category 3 is 'box' (thing), in params/datasets/own.yaml 'crate' (thing)" in faults


def test_an_absent_folder_is_one_clear_error(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KMAX_DATA_ROOT", "/nowhere")
    with pytest.raises(InputError, match=r"/nowhere/own: folder of dataset 'own' not found"):
        check("own")


def test_a_variable_set_for_the_download_alone_is_told_by_the_next_verbs(
    own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    download("own")  # writes data/raw/own/manifest.json, so that this folder is there
    monkeypatch.delenv("KMAX_DATA_ROOT")
    for verb in (check, prepare):
        with pytest.raises(InputError, match=r"JSON of dataset .own. not found; in every call"):
            verb("own")
